package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// objectKindLabel is the label under which the default import rule files the kind
// of an object.
const objectKindLabel = "object_kind"

// The kinds of objects in a database, as they appear in labels.
const (
	ObjectTable            = "table"
	ObjectView             = "view"
	ObjectMaterializedView = "materialized_view"
	ObjectForeignTable     = "foreign_table"
	ObjectSequence         = "sequence"
	ObjectFunction         = "function"
	ObjectProcedure        = "procedure"
)

// ObjectKinds returns every kind of object, sorted.
func ObjectKinds() []string {
	return []string{ObjectForeignTable, ObjectFunction, ObjectMaterializedView, ObjectProcedure, ObjectSequence, ObjectTable, ObjectView}
}

// Privileges returns the permissions that PostgreSQL knows for a kind of object,
// in capitals, or nil for a kind that we do not know. MAINTAIN exists since
// PostgreSQL 17.
func Privileges(objectKind string) []string {
	switch objectKind {
	case ObjectTable, ObjectView, ObjectMaterializedView, ObjectForeignTable:
		return []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"}
	case ObjectSequence:
		return []string{"USAGE", "SELECT", "UPDATE"}
	case ObjectFunction, ObjectProcedure:
		return []string{"EXECUTE"}
	}
	return nil
}

// checkPrivilege refuses a permission that no object of the matched kinds has.
// Kinds that we do not know are left alone: labels are free text.
func checkPrivilege(path, name string, kinds []string) Problems {
	valid := map[string]bool{}
	for _, kind := range kinds {
		known := Privileges(kind)
		if known == nil && !isPattern(kind) {
			return nil // a label of the administrator's own making
		}
		for _, p := range known {
			valid[p] = true
		}
	}
	if len(kinds) == 0 || slices.ContainsFunc(kinds, isPattern) {
		for _, kind := range ObjectKinds() {
			for _, p := range Privileges(kind) {
				valid[p] = true
			}
		}
	}
	if valid[strings.ToUpper(strings.TrimSpace(name))] {
		return nil
	}
	of := "object"
	if len(kinds) > 0 {
		of = strings.Join(kinds, ",")
	}
	known := slices.Sorted(maps.Keys(valid))
	hint := didYouMean(name, known)
	if hint == "" {
		hint = "use " + strings.Join(known, ", ")
	}
	return Problems{{Path: path, Text: fmt.Sprintf("unrecognized %q Postgres permission: %q", of, name), Hint: hint}}
}

// isPattern reports whether a selector value matches more than itself.
func isPattern(value string) bool {
	return strings.Contains(value, "*") || strings.HasPrefix(value, "^")
}
