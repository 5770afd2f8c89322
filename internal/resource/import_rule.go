package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// ImportRule puts labels on the objects inside databases, kind
// db_object_import_rule v1. Roles select objects by these labels; an object
// without labels cannot be reached by db_permissions.
type ImportRule struct {
	Kind     string          `json:"kind"`
	SubKind  string          `json:"sub_kind,omitempty"`
	Version  string          `json:"version"`
	Metadata Metadata        `json:"metadata"`
	Spec     *ImportRuleSpec `json:"spec"`
}

// ImportRuleSpec says which databases a rule is for and what it does there.
type ImportRuleSpec struct {
	Priority       int             `json:"priority,omitempty"` // rules apply in ascending order
	DatabaseLabels []LabelValues   `json:"database_labels"`
	Mappings       []ImportMapping `json:"mappings"`
}

// LabelValues is one entry of a label selector in its list form.
type LabelValues struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// ImportMapping adds labels to the objects that match.
type ImportMapping struct {
	Scope     ImportScope       `json:"scope,omitzero"`
	Match     ImportMatch       `json:"match"`
	AddLabels map[string]string `json:"add_labels"`
}

// ImportScope limits a mapping to places. Each empty list means everywhere.
type ImportScope struct {
	DatabaseNames []string `json:"database_names,omitempty"`
	SchemaNames   []string `json:"schema_names,omitempty"`
}

// ImportMatch selects objects by kind and name. An empty list selects nothing of
// that kind.
type ImportMatch struct {
	TableNames            []string `json:"table_names,omitempty"`
	ViewNames             []string `json:"view_names,omitempty"`
	ProcedureNames        []string `json:"procedure_names,omitempty"`
	FunctionNames         []string `json:"function_names,omitempty"`
	SequenceNames         []string `json:"sequence_names,omitempty"`
	MaterializedViewNames []string `json:"materialized_view_names,omitempty"`
	ForeignTableNames     []string `json:"foreign_table_names,omitempty"`
}

// Names returns the patterns for a kind of object.
func (m ImportMatch) Names(objectKind string) []string {
	switch objectKind {
	case ObjectTable:
		return m.TableNames
	case ObjectView:
		return m.ViewNames
	case ObjectProcedure:
		return m.ProcedureNames
	case ObjectFunction:
		return m.FunctionNames
	case ObjectSequence:
		return m.SequenceNames
	case ObjectMaterializedView:
		return m.MaterializedViewNames
	case ObjectForeignTable:
		return m.ForeignTableNames
	}
	return nil
}

// DefaultImportRule returns the rule of clusters that have none: every object of
// every database, labelled with where it is.
func DefaultImportRule() *ImportRule {
	everything := []string{"*"}
	labels := map[string]string{}
	for _, f := range objectFields {
		labels[f] = "{{obj." + f + "}}"
	}
	return &ImportRule{
		Kind: KindImportRule, Version: "v1", Metadata: Metadata{Name: "import_all_objects"},
		Spec: &ImportRuleSpec{
			DatabaseLabels: []LabelValues{{Name: "*", Values: everything}},
			Mappings: []ImportMapping{{
				Match: ImportMatch{
					TableNames: everything, ViewNames: everything, ProcedureNames: everything, FunctionNames: everything,
					SequenceNames: everything, MaterializedViewNames: everything, ForeignTableNames: everything,
				},
				AddLabels: labels,
			}},
		},
	}
}

// GetKind returns "db_object_import_rule".
func (r *ImportRule) GetKind() string { return KindImportRule }

// GetName returns the name of the resource.
func (r *ImportRule) GetName() string { return r.Metadata.Name }

// GetMetadata returns name, description and labels.
func (r *ImportRule) GetMetadata() Metadata { return r.Metadata }

// MarshalJSON returns the stored form.
func (r ImportRule) MarshalJSON() ([]byte, error) { return encodeJSON(r) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (r *ImportRule) UnmarshalJSON(data []byte) error {
	*r = ImportRule{}
	return decodeJSONInto(data, r)
}

func (r *ImportRule) prepare() Problems {
	var ps Problems
	if r.Kind != KindImportRule {
		return Problems{{Path: "kind", Text: fmt.Sprintf("invalid kind %s, expected %s", r.Kind, KindImportRule)}}
	}
	ps = append(ps, checkName(KindImportRule, r.Metadata.Name)...)
	if r.Version == "" {
		r.Version = "v1"
	}
	ps = append(ps, checkVersion(KindImportRule, r.Version, "v1")...)
	if r.Spec == nil {
		return append(ps, Problem{Path: "spec", Text: "missing spec"})
	}
	if len(r.Spec.DatabaseLabels) == 0 {
		ps = append(ps, Problem{Path: "spec.database_labels", Text: "missing database_labels", Hint: `write - {name: "*", values: ["*"]} for every database`})
	}
	for i, l := range r.Spec.DatabaseLabels {
		if l.Name == "" {
			ps = append(ps, Problem{Path: fmt.Sprintf("spec.database_labels[%d]", i), Text: "a label has no name"})
		}
	}
	if len(r.Spec.Mappings) == 0 {
		ps = append(ps, Problem{Path: "spec.mappings", Text: "missing mappings"})
	}
	for i, m := range r.Spec.Mappings {
		ps = append(ps, m.check(fmt.Sprintf("spec.mappings[%d].add_labels", i))...)
	}
	return ps
}

func (m ImportMapping) check(path string) Problems {
	var ps Problems
	for _, key := range slices.Sorted(maps.Keys(m.AddLabels)) {
		if key == "" {
			ps = append(ps, Problem{Path: path, Text: "a label key is empty"})
		}
		if _, err := ParseObjectTemplate(m.AddLabels[key]); err != nil {
			ps = append(ps, Problem{Path: path + "." + key, Text: err.Error()})
		}
	}
	return ps
}

// objectFields are the facts about an object that templates of import rules use.
var objectFields = [...]string{"protocol", "database_service_name", "object_kind", "database", "schema", "name"}

// ObjectTemplate is a label value of an import rule: text around at most one
// {{obj.field}}.
type ObjectTemplate struct {
	Prefix, Suffix string
	Field          string // "" for a literal, which is then in Prefix
}

// ParseObjectTemplate reads a label value of an import rule. The error is Invalid.
func ParseObjectTemplate(text string) (ObjectTemplate, error) {
	t, err := ParseTemplate(text)
	if err != nil {
		return ObjectTemplate{}, err
	}
	if t.IsLiteral() {
		return ObjectTemplate{Prefix: strings.TrimSpace(text)}, nil
	}
	v, ok := t.expr.(templateVariable)
	if !ok || v.namespace != "obj" || !slices.Contains(objectFields[:], v.name) {
		return ObjectTemplate{}, fault.Newf(fault.Invalid, "%q is not a fact about an object", excerptOf(text)).
			WithHint("use {{obj." + strings.Join(objectFields[:], "}}, {{obj.") + "}}")
	}
	return ObjectTemplate{Prefix: t.prefix, Field: v.name, Suffix: t.suffix}, nil
}
