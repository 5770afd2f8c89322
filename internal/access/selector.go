package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// Selector selects things by their labels. The zero Selector selects nothing.
//
// A selector of {'*': '*'} selects everything, also what has no labels. Otherwise
// every key must be among the labels, and one of its patterns must match the
// label's value. Keys are never patterns. A Selector is immutable.
type Selector struct {
	all  bool
	keys []selectorKey // sorted
}

type selectorKey struct {
	key      string
	patterns []Pattern
}

// NewSelector compiles a label selector. With an error, which says which value is
// broken, the selector selects nothing.
func NewSelector(labels resource.LabelSelector) (Selector, error) {
	if slices.Equal(labels["*"], []string{"*"}) {
		return Selector{all: true}, nil
	}
	var s Selector
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		k := selectorKey{key: key}
		for _, value := range labels[key] {
			p, err := ParsePattern(value)
			if err != nil {
				return Selector{}, fmt.Errorf("label %q: %w", key, err)
			}
			k.patterns = append(k.patterns, p)
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// isZero reports whether the selector says nothing.
func (s *Selector) isZero() bool { return !s.all && s.keys == nil }

// Match reports whether the selector selects something with these labels.
func (s *Selector) Match(labels map[string]string) bool {
	if s.all {
		return true
	}
	for i := range s.keys {
		if value, found := labels[s.keys[i].key]; !found || !s.keys[i].match(value) {
			return false
		}
	}
	return len(s.keys) > 0
}

func (k *selectorKey) match(value string) bool {
	for i := range k.patterns {
		if k.patterns[i].Match(value) {
			return true
		}
	}
	return false
}

// String describes the selector as people say it: env=dev, team=a or b.
func (s *Selector) String() string {
	if s.all {
		return "with any labels"
	}
	parts := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		parts = append(parts, k.key+"="+k.alternatives())
	}
	return "labelled " + strings.Join(parts, ", ")
}

func (k *selectorKey) alternatives() string {
	texts := make([]string, 0, len(k.patterns))
	for _, p := range k.patterns {
		texts = append(texts, p.text)
	}
	return orList(texts)
}

// miss says which labels keep the selector from matching, in words that end the
// sentence "this one ...".
func (s *Selector) miss(labels map[string]string) string {
	var missing []string
	for i := range s.keys {
		k := &s.keys[i]
		value, found := labels[k.key]
		switch {
		case !found:
			missing = append(missing, "has no label "+k.key)
		case !k.match(value):
			missing = append(missing, "is "+k.key+"="+value)
		}
	}
	return strings.Join(missing, " and ")
}

// countMisses returns how many keys do not match.
func (s *Selector) countMisses(labels map[string]string) int {
	n := 0
	for i := range s.keys {
		if value, found := labels[s.keys[i].key]; !found || !s.keys[i].match(value) {
			n++
		}
	}
	return n
}

// labelTemplates is one entry of a label selector that uses templates.
type labelTemplates struct {
	key    entry
	values []entry
}

// compileLabelTemplates prepares a selector in which any key or value uses
// template brackets; for others it returns nil.
func compileLabelTemplates(labels resource.LabelSelector) []labelTemplates {
	if slices.Equal(labels["*"], []string{"*"}) {
		return nil // the other entries do not matter
	}
	variable := false
	var out []labelTemplates
	compile := func(text string) entry {
		t, err := resource.ParseTemplate(text)
		variable = variable || err != nil || !t.IsLiteral()
		return entry{t, err}
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		l := labelTemplates{key: compile(key)}
		for _, v := range labels[key] {
			l.values = append(l.values, compile(v))
		}
		out = append(out, l)
	}
	if !variable {
		return nil
	}
	return out
}

// expandSelector replaces templates by the traits of a user and compiles the
// result. A key becomes the first value of its template, a value all of them. Any
// failure is an error: an allow side then selects nothing, a deny side refuses.
func expandSelector(templates []labelTemplates, traits map[string][]string) (Selector, error) {
	s := Selector{keys: make([]selectorKey, 0, len(templates))}
	for i := range templates {
		k, err := templates[i].expand(traits)
		if err != nil {
			return Selector{}, err
		}
		if slices.ContainsFunc(s.keys, func(other selectorKey) bool { return other.key == k.key }) {
			return Selector{}, fmt.Errorf("two label keys become %q", k.key)
		}
		if k.key == "*" && len(k.patterns) == 1 && k.patterns[0].text == "*" {
			s.all = true
		}
		s.keys = append(s.keys, k)
	}
	if s.all {
		return Selector{all: true}, nil
	}
	slices.SortFunc(s.keys, func(a, b selectorKey) int { return strings.Compare(a.key, b.key) })
	return s, nil
}

// expand replaces the templates of one entry.
func (l *labelTemplates) expand(traits map[string][]string) (selectorKey, error) {
	key, err := l.key.first(traits)
	if err != nil {
		return selectorKey{}, err
	}
	k := selectorKey{key: key, patterns: make([]Pattern, 0, len(l.values)+2)}
	for i := range l.values {
		var room [4]string
		values, err := l.values[i].expand(room[:0], traits)
		if err != nil {
			return selectorKey{}, err
		}
		for _, v := range values {
			p, err := ParsePattern(v)
			if err != nil {
				return selectorKey{}, fmt.Errorf("label %q: %w", key, err)
			}
			k.patterns = append(k.patterns, p)
		}
	}
	return k, nil
}

// first returns the first value of a template.
func (e *entry) first(traits map[string][]string) (string, error) {
	if e.err == nil && e.template.IsLiteral() {
		return e.template.String(), nil
	}
	values, err := e.expand(nil, traits)
	if err != nil {
		return "", err
	}
	return values[0], nil
}

// expand returns the values of a template, at least one, in the room given.
func (e *entry) expand(room []string, traits map[string][]string) ([]string, error) {
	if e.err != nil {
		return nil, e.err
	}
	values, err := e.template.Append(room, traits)
	if err == nil && len(values) == 0 {
		err = errors.New("the template " + e.template.String() + " has no value")
	}
	return values, err
}

// orList joins words: a, b or c.
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
