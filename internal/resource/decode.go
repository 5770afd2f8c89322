package resource

import (
	"encoding"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Other holds fields that belong to protocols other than ours, as they were
// written. A struct that tolerates some has one field of this type, without a
// JSON tag, and lists the names in a method toleratedKeys.
type Other map[string]any

// tolerant is a struct that keeps fields of other protocols in an [Other].
type tolerant interface{ toleratedKeys() []string }

// decoder fills Go values from a tree of nodes and collects every mistake.
//
// Struct fields are found by their json tag. A bool takes yes, no, on and off
// too; a list takes a single value; a string takes any scalar as it was written.
// A type with UnmarshalText reads a scalar itself.
type decoder struct {
	src      source
	problems Problems
	at       map[string]*yaml.Node // where each path was written, for checks that come later
	root     reflect.Type          // of the whole document, to find where a misplaced key belongs
	tables   map[reflect.Type]fieldTable
}

func newDecoder(src source, root any) *decoder {
	return &decoder{src: src, root: reflect.TypeOf(root), at: map[string]*yaml.Node{}, tables: map[reflect.Type]fieldTable{}}
}

// maxProblems bounds how many mistakes are collected from one document.
const maxProblems = 1000

// fail records a problem at a node.
func (d *decoder) fail(n *yaml.Node, path, text, hint string) {
	if len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, d.src.problem(n.Line, n.Column, path, text, hint))
}

// locate turns a problem that only knows its path into one with a position. A
// path that was not written is reported at the nearest place around it.
func (d *decoder) locate(p Problem) Problem {
	for path := p.Path; ; {
		if n := d.at[path]; n != nil {
			return d.src.problem(n.Line, n.Column, p.Path, p.Text, p.Hint)
		}
		if path == "" {
			return d.src.problem(0, 0, p.Path, p.Text, p.Hint)
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// value decodes n into v, which must be settable.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		d.fail(n, path, "aliases are not supported", "write the value out")
		return
	}
	if n.Tag == tagNull && n.Kind == yaml.ScalarNode {
		return // an empty value means the same as a missing field
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if n.Kind == yaml.ScalarNode {
		if !knownTag(n.Tag) {
			d.fail(n, path, "the tag "+strconv.Quote(n.Tag)+" is not supported", "")
			return
		}
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(n.Value)); err != nil {
				d.fail(n, path, err.Error(), "")
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Interface:
		if raw := d.raw(n, path); raw != nil {
			v.Set(reflect.ValueOf(raw))
		}
	default:
		d.scalar(n, v, path)
	}
}

func knownTag(tag string) bool {
	switch tag {
	case tagString, tagInt, tagFloat, tagBool, tagNull, tagTimestamp:
		return true
	}
	return false
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "expected "+describe(v)+", found "+describeNode(n), "")
		return
	}
	ok := true
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if b, ok = parseBool(n.Value); ok {
			v.SetBool(b)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		v.SetInt(i)
		ok = err == nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 10, v.Type().Bits())
		v.SetUint(u)
		ok = err == nil
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, v.Type().Bits())
		v.SetFloat(f)
		ok = err == nil
	default:
		panic("resource: cannot decode into " + v.Type().String())
	}
	if !ok {
		d.fail(n, path, fmt.Sprintf("expected %s, found %q", describe(v), n.Value), "")
	}
}

// parseBool reads the words that YAML 1.1 files use, whatever their case.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	items := n.Content
	switch n.Kind {
	case yaml.ScalarNode:
		items = []*yaml.Node{n}
	case yaml.MappingNode:
		if v.Type().Elem().Kind() != reflect.Struct {
			d.fail(n, path, "expected a list, found a mapping", "")
			return
		}
		d.fail(n, path, "expected a list, found a mapping", `begin each entry with "- "`)
		return
	default:
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.at[at] = item
		if item.Tag == tagNull && item.Kind == yaml.ScalarNode {
			d.fail(item, at, "a list entry is empty", "")
			continue
		}
		d.value(item, out.Index(i), at)
	}
	v.Set(out)
}

// entries calls each for every entry of a mapping, after refusing duplicate and
// unusable keys.
func (d *decoder) entries(n *yaml.Node, path string, each func(key string, keyNode, value *yaml.Node, path string)) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		keyNode, value := n.Content[i], n.Content[i+1]
		if keyNode.Kind != yaml.ScalarNode || !knownTag(keyNode.Tag) {
			d.fail(keyNode, path, "a key must be plain text", `quote keys such as "*"`)
			continue
		}
		key := keyNode.Value
		if line, dup := seen[key]; dup {
			hint := ""
			if line > 0 {
				hint = fmt.Sprintf("first in line %d", line)
			}
			d.fail(keyNode, path, fmt.Sprintf("the key %q is there twice", key), hint)
			continue
		}
		seen[key] = keyNode.Line
		at := strings.TrimPrefix(path+"."+key, ".")
		d.at[at] = keyNode
		if value.Kind == yaml.ScalarNode && value.Tag != tagNull {
			d.at[at] = value
		}
		each(key, keyNode, value, at)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "expected a mapping, found "+describeNode(n), "")
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Content)/2))
	d.entries(n, path, func(key string, _, value *yaml.Node, at string) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, item, at)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	})
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "expected a mapping, found "+describeNode(n), "")
		return
	}
	table, known := d.tables[v.Type()]
	if !known {
		table = tableOf(v.Type())
		d.tables[v.Type()] = table
	}
	var tolerated []string
	if t, ok := v.Addr().Interface().(tolerant); ok {
		tolerated = t.toleratedKeys()
	}
	d.entries(n, path, func(key string, keyNode, value *yaml.Node, at string) {
		if f, ok := table.byName[key]; ok {
			d.value(value, v.FieldByIndex(f.index), at)
			return
		}
		if slices.Contains(tolerated, key) {
			kept := v.FieldByIndex(table.other).Addr().Interface().(*Other)
			if *kept == nil {
				*kept = Other{}
			}
			(*kept)[key] = d.raw(value, at)
			return
		}
		words := append(slices.Collect(maps.Keys(table.byName)), tolerated...)
		hint := didYouMean(key, words)
		if place := d.placeOf(d.root, key, "", 0); hint == "" && place != "" {
			hint = "it belongs under " + place
		}
		d.fail(keyNode, at, fmt.Sprintf("unknown field %q", key), hint)
	})
}

// placeOf returns the path of the mapping that has a key, or "". Keys inside lists
// are not looked for.
func (d *decoder) placeOf(t reflect.Type, key, path string, depth int) string {
	const deepest = 4 // no resource is deeper
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || depth > deepest {
		return ""
	}
	table := tableOf(t)
	if _, found := table.byName[key]; found && path != "" {
		return path
	}
	for _, f := range table.ordered {
		if place := d.placeOf(t.FieldByIndex(f.index).Type, key, strings.TrimPrefix(path+"."+f.name, "."), depth+1); place != "" {
			return place
		}
	}
	return ""
}

// raw decodes a value of which only the shape matters.
func (d *decoder) raw(n *yaml.Node, path string) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.entries(n, path, func(key string, _, value *yaml.Node, at string) { m[key] = d.raw(value, at) })
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = d.raw(item, fmt.Sprintf("%s[%d]", path, i))
		}
		return list
	case yaml.ScalarNode:
		return d.rawScalar(n, path)
	default:
		d.fail(n, path, "aliases are not supported", "write the value out")
		return nil
	}
}

func (d *decoder) rawScalar(n *yaml.Node, path string) any {
	switch n.Tag {
	case tagNull:
		return nil
	case tagString, tagTimestamp:
		return n.Value
	case tagBool:
		if b, ok := parseBool(n.Value); ok {
			return b
		}
	case tagInt:
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return i
		}
	case tagFloat:
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	}
	d.fail(n, path, fmt.Sprintf("the value %q is not supported", n.Value), "quote it if it is text")
	return nil
}

// describe names what a Go value takes, in words for the person who writes YAML.
func describe(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "yes or no"
	case reflect.String:
		return "text"
	default:
		return "a number"
	}
}

func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%q", n.Value)
	}
}
