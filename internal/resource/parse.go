package resource

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/postern-db/postern/internal/fault"
)

// Parse reads every document of a YAML file. It returns all resources, or an
// Invalid fault with all mistakes and no resource. The file name is used in
// messages only.
func Parse(file string, data []byte) ([]Resource, error) {
	src, docs, problems := loadYAML(file, data)
	var (
		found []Resource
		all   Problems
	)
	for _, doc := range docs {
		r, ps := decodeResource(src, doc)
		all = append(all, ps...)
		found = append(found, r)
	}
	all = append(all, problems...)
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	if len(all) == 0 && len(found) == 0 {
		all = Problems{src.problem(0, 0, "", "the file holds no resource", "begin with kind, version and metadata")}
	}
	if len(all) > 0 {
		return nil, all.err()
	}
	return found, nil
}

// DecodeStrict reads one YAML document into a struct. Keys are the json tags of
// its fields; everything else is an error. All mistakes are returned at once as
// an Invalid fault, with the same texts as those of [Parse].
//
// A bool takes yes, no, on and off too, a list takes a single value, a string
// takes any scalar, and a type with UnmarshalText reads a scalar itself. A file
// without content leaves the struct as it is.
func DecodeStrict(file string, data []byte, into any) error {
	src, docs, problems := loadYAML(file, data)
	d := newDecoder(src, into)
	switch {
	case len(docs) > 1:
		d.fail(docs[1], "", "the file holds more than one document", "")
	case len(docs) == 1:
		d.value(docs[0], reflect.ValueOf(into).Elem(), "")
	}
	return append(d.problems, problems...).err()
}

// DecodeJSON reads the stored form of a resource. It is as strict as [Parse]: a
// field that this version does not know may be a restriction. It returns an
// Invalid fault.
func DecodeJSON(kind string, data []byte) (Resource, error) {
	r := New(kind)
	if r == nil {
		return nil, fault.Newf(fault.Invalid, "unknown kind %q", kind)
	}
	if err := decodeJSONInto(data, r); err != nil {
		return nil, err
	}
	return r, nil
}

// decodeJSONInto fills and checks r, which must be empty.
func decodeJSONInto(data []byte, r Resource) error {
	node, err := loadJSON(data)
	if err != nil {
		return fault.Newf(fault.Invalid, "the %s is not valid JSON: %v", r.GetKind(), err)
	}
	d := newDecoder(source{}, r)
	d.value(node, reflect.ValueOf(r).Elem(), "")
	if len(d.problems) > 0 {
		return d.problems.err()
	}
	return r.prepare().err()
}

// decodeResource reads one document.
func decodeResource(src source, doc *yaml.Node) (Resource, Problems) {
	r, problems := resourceFor(src, doc)
	if r == nil {
		return nil, problems
	}
	d := newDecoder(src, r)
	d.at[""] = doc
	d.value(doc, reflect.ValueOf(r).Elem(), "")
	broken := len(d.problems) > 0
	for _, p := range r.prepare() {
		// Beside mistakes in reading, only those about what was read well: the
		// others may be no more than a consequence.
		if !broken || d.at[p.Path] != nil && !slices.ContainsFunc(d.problems, func(o Problem) bool { return o.Path == p.Path }) {
			d.problems = append(d.problems, d.locate(p))
		}
	}
	return r, d.problems
}

// resourceFor returns an empty resource of the kind that a document names.
func resourceFor(src source, doc *yaml.Node) (Resource, Problems) {
	fail := func(at *yaml.Node, path, text, hint string) (Resource, Problems) {
		return nil, Problems{src.problem(at.Line, at.Column, path, text, hint)}
	}
	if doc.Kind != yaml.MappingNode {
		return fail(doc, "", "expected a resource, found "+describeNode(doc), "begin with kind, version and metadata")
	}
	at, kind := doc, ""
	for i := 0; i+1 < len(doc.Content); i += 2 {
		if doc.Content[i].Value == "kind" {
			at, kind = doc.Content[i+1], doc.Content[i+1].Value
		}
	}
	if kind == "" {
		return fail(at, "kind", "the resource has no kind", "one of "+strings.Join(Kinds(), ", "))
	}
	if r := New(kind); r != nil {
		return r, nil
	}
	return fail(at, "kind", fmt.Sprintf("unknown kind %q", kind), cmp.Or(didYouMean(kind, Kinds()), "one of "+strings.Join(Kinds(), ", ")))
}
