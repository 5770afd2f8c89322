package access

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// compiledImportRule is an import rule in the form that decisions use.
type compiledImportRule struct {
	name      string
	priority  int
	databases Selector
	mappings  []compiledMapping
	anywhere  error // the database labels are broken: it is not known where the rule applies
	broken    error // a mapping is broken
}

type compiledMapping struct {
	databases []Pattern            // empty: every logical database
	schemas   []Pattern            // empty: every schema
	names     map[string][]Pattern // by kind of object
	add       []labelTemplate
}

type labelTemplate struct {
	key   string
	value resource.ObjectTemplate
}

// compileImportRules prepares the rules in the order in which they apply. Without
// any the default rule imports everything.
func compileImportRules(rules []*resource.ImportRule) []*compiledImportRule {
	if len(rules) == 0 {
		rules = []*resource.ImportRule{resource.DefaultImportRule()}
	}
	out := make([]*compiledImportRule, 0, len(rules))
	for _, r := range rules {
		out = append(out, compileImportRule(r))
	}
	slices.SortFunc(out, func(a, b *compiledImportRule) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), strings.Compare(a.name, b.name))
	})
	return out
}

func compileImportRule(r *resource.ImportRule) *compiledImportRule {
	out := &compiledImportRule{name: r.GetName(), priority: r.Spec.Priority}
	labels := resource.LabelSelector{}
	for _, l := range r.Spec.DatabaseLabels {
		labels[l.Name] = append(labels[l.Name], l.Values...)
	}
	out.databases, out.anywhere = NewSelector(labels)
	for i, m := range r.Spec.Mappings {
		c, err := compileMapping(m)
		if err != nil && out.broken == nil {
			out.broken = fmt.Errorf("mapping %d: %w", i+1, err)
		}
		out.mappings = append(out.mappings, c)
	}
	return out
}

func compileMapping(m resource.ImportMapping) (compiledMapping, error) {
	out := compiledMapping{names: map[string][]Pattern{}}
	var first error
	patterns := func(texts []string) []Pattern {
		var list []Pattern
		for _, text := range texts {
			p, err := ParsePattern(text)
			if err != nil && first == nil {
				first = err
			}
			list = append(list, p)
		}
		return list
	}
	out.databases, out.schemas = patterns(m.Scope.DatabaseNames), patterns(m.Scope.SchemaNames)
	for _, kind := range resource.ObjectKinds() {
		out.names[kind] = patterns(m.Match.Names(kind))
	}
	for _, key := range slices.Sorted(maps.Keys(m.AddLabels)) {
		t, err := resource.ParseObjectTemplate(m.AddLabels[key])
		if err != nil && first == nil {
			first = err
		}
		out.add = append(out.add, labelTemplate{key, t})
	}
	return out, first
}

// importer labels the objects of one database. Labels live in numbered slots that
// are reused from object to object, so that labelling allocates nothing.
type importer struct {
	broken   bool
	protocol string
	service  string
	mappings []importMapping
	slots    map[string]int // label key → slot
	values   []string       // of the current object
	set      []int          // round in which a slot was set last
	round    int            // number of the current object
}

type importMapping struct {
	*compiledMapping
	slots []int // where each label that it adds goes
}

// importerFor prepares the rules that apply to a database.
func (p *Policy) importerFor(db *resource.Database, labels map[string]string) *importer {
	if labels == nil {
		labels = db.Metadata.Labels
	}
	in := &importer{protocol: db.Spec.Protocol, service: db.GetName(), slots: map[string]int{}}
	for _, r := range p.importRules {
		if r.anywhere == nil && !r.databases.Match(labels) {
			continue
		}
		in.broken = in.broken || r.anywhere != nil || r.broken != nil
		for i := range r.mappings {
			m := importMapping{compiledMapping: &r.mappings[i]}
			for _, l := range m.add {
				slot, found := in.slots[l.key]
				if !found {
					slot = len(in.slots)
					in.slots[l.key] = slot
				}
				m.slots = append(m.slots, slot)
			}
			in.mappings = append(in.mappings, m)
		}
	}
	in.values, in.set = make([]string, len(in.slots)), make([]int, len(in.slots))
	return in
}

// labelObject applies the rules to an object and reports whether any imports it.
func (in *importer) labelObject(o *Object) bool {
	in.round++
	imported := false
	for i := range in.mappings {
		m := &in.mappings[i]
		if !m.applies(o) {
			continue
		}
		imported = true
		for j := range m.add {
			slot := m.slots[j]
			in.values[slot], in.set[slot] = in.value(&m.add[j].value, o), in.round
		}
	}
	return imported
}

func (m *compiledMapping) applies(o *Object) bool {
	return (len(m.databases) == 0 || matchesAny(m.databases, o.Database)) &&
		(len(m.schemas) == 0 || matchesAny(m.schemas, o.Schema)) &&
		matchesAny(m.names[o.Kind], o.Name)
}

// matchesAny reports whether a pattern of the list matches. An empty pattern
// matches nothing, not even an empty name.
func matchesAny(patterns []Pattern, text string) bool {
	for i := range patterns {
		if patterns[i].text != "" && patterns[i].Match(text) {
			return true
		}
	}
	return false
}

// value returns the label value that a template gives for an object.
func (in *importer) value(t *resource.ObjectTemplate, o *Object) string {
	field := ""
	switch t.Field {
	case "":
		return t.Prefix
	case "protocol":
		field = in.protocol
	case "database_service_name":
		field = in.service
	case "object_kind":
		field = o.Kind
	case "database":
		field = o.Database
	case "schema":
		field = o.Schema
	case "name":
		field = o.Name
	}
	return strings.TrimSpace(t.Prefix + field + t.Suffix)
}

// ObjectLabels returns the labels that import rules give to an object of a
// database, and whether any rule imports it at all. An object is not imported
// while a rule that may apply is broken.
func (p *Policy) ObjectLabels(db *resource.Database, labels map[string]string, o Object) (map[string]string, bool) {
	in := p.importerFor(db, labels)
	if in.broken || !in.labelObject(&o) {
		return nil, false
	}
	out := map[string]string{}
	for key, slot := range in.slots {
		if in.set[slot] == in.round {
			out[key] = in.values[slot]
		}
	}
	return out, true
}
