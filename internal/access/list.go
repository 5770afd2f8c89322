package access

import (
	"fmt"
	"slices"

	"github.com/postern-db/postern/internal/resource"
)

// list is a list of names in a role, some of which may be templates.
type list struct {
	fixed     *names // the result when there are no templates; nil otherwise
	templates []entry
}

// entry is one written value.
type entry struct {
	template *resource.Template
	err      error // it does not parse
}

// names is a list after its templates were replaced.
type names struct {
	values []string // without duplicates, in the order written
	any    bool     // "*" is among them
}

func compileList(texts []string) list {
	var (
		l        list
		variable bool
	)
	for _, text := range texts {
		t, err := resource.ParseTemplate(text)
		l.templates = append(l.templates, entry{t, err})
		variable = variable || err != nil || !t.IsLiteral()
	}
	if !variable {
		n, _ := l.expand(nil)
		l.fixed = &n
		l.templates = nil
	}
	return l
}

// expand replaces the templates. Entries that fail are left out; the first
// failure is returned beside the others.
func (l *list) expand(traits map[string][]string) (names, error) {
	if l.fixed != nil {
		return *l.fixed, nil
	}
	var (
		n     names
		first error
	)
	n.values = make([]string, 0, len(l.templates)+2)
	add := func(v string) {
		if !slices.Contains(n.values, v) {
			n.values = append(n.values, v)
		}
	}
	for i := range l.templates {
		e := &l.templates[i]
		if e.err == nil && e.template.IsLiteral() {
			add(e.template.String())
			continue
		}
		err := e.err
		var (
			room   [4]string
			values []string
		)
		if err == nil {
			values, err = e.template.Append(room[:0], traits)
		}
		if err != nil && first == nil {
			first = err
		}
		for _, v := range values {
			add(v)
		}
	}
	n.any = slices.Contains(n.values, "*")
	return n, first
}

// contains reports whether the list has the name or the wildcard.
func (n *names) contains(name string) bool { return n.any || slices.Contains(n.values, name) }

// empty reports whether the list names nothing.
func (n *names) empty() bool { return !n.any && len(n.values) == 0 }

// String lists the names for a message, at most a handful.
func (n *names) String() string {
	const most = 8
	if len(n.values) == 0 {
		return "none"
	}
	if len(n.values) > most {
		return orList(append(slices.Clone(n.values[:most]), fmt.Sprintf("%d more", len(n.values)-most)))
	}
	return orList(n.values)
}
