package resource

import (
	"reflect"
	"strings"
)

// field is one written field of a struct.
type field struct {
	name      string
	index     []int
	omitEmpty bool
}

// fieldTable is what the codec knows about a struct type.
type fieldTable struct {
	byName  map[string]field
	ordered []field
	other   []int // index of the field of type Other; nil without one
}

// tableOf returns the written fields of a struct type in their order. Embedded
// structs without a tag count as part of the struct around them.
func tableOf(t reflect.Type) fieldTable {
	table := fieldTable{byName: map[string]field{}}
	for _, f := range reflect.VisibleFields(t) {
		if f.Type == reflect.TypeFor[Other]() {
			table.other = f.Index
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		entry := field{name: name, index: f.Index, omitEmpty: strings.Contains(options, "omit")}
		table.byName[name] = entry
		table.ordered = append(table.ordered, entry)
	}
	return table
}
