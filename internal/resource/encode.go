package resource

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// EncodeYAML prints a resource the way people write it. [Parse] reads it back
// unchanged.
func EncodeYAML(r Resource) ([]byte, error) {
	data, err := yaml.Dump(encode(reflect.ValueOf(r)))
	if err != nil {
		return nil, fmt.Errorf("print %s %s as yaml: %w", r.GetKind(), r.GetName(), err)
	}
	return data, nil
}

// encodeJSON returns the stored form of a resource.
func encodeJSON(v any) ([]byte, error) { return appendJSON(nil, encode(reflect.ValueOf(v))), nil }

// encode is the inverse of decoder.value. Nil maps and lists are left out while
// empty ones are kept: for a role of version v3 they mean different things.
func encode(v reflect.Value) *yaml.Node {
	if v.CanInterface() {
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			text, _ := m.MarshalText() // only our own types come here, and none of them fails
			return textNode(string(text))
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return scalarNode(tagNull, "null")
		}
		return encode(v.Elem())
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Map:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			node.Content = append(node.Content, textNode(k.String()), encode(v.MapIndex(k)))
		}
		return node
	case reflect.Slice:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.Len() {
			node.Content = append(node.Content, encode(v.Index(i)))
		}
		return node
	case reflect.Bool:
		return scalarNode(tagBool, strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return scalarNode(tagInt, strconv.FormatInt(v.Int(), 10))
	case reflect.Float64:
		text := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0" // stays a float when it is read back
		}
		return scalarNode(tagFloat, text)
	case reflect.String:
		return textNode(v.String())
	default:
		panic("resource: cannot encode " + v.Type().String())
	}
}

// textNode returns text in the style that reads best.
func textNode(text string) *yaml.Node {
	node := scalarNode(tagString, text)
	if strings.Contains(text, "\n") {
		node.Style = yaml.LiteralStyle // certificates stay readable
	} else if _, word := parseBool(text); word {
		node.Style = yaml.DoubleQuotedStyle // readers of YAML 1.1 take off and no for booleans
	}
	return node
}

func encodeStruct(v reflect.Value) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	table := tableOf(v.Type())
	for _, f := range table.ordered {
		value := v.FieldByIndex(f.index)
		if f.omitEmpty && value.IsZero() {
			continue
		}
		node.Content = append(node.Content, scalarNode(tagString, f.name), encode(value))
	}
	if table.other != nil {
		kept := v.FieldByIndex(table.other).Interface().(Other)
		for _, k := range slices.Sorted(maps.Keys(kept)) {
			item := scalarNode(tagNull, "null")
			if kept[k] != nil {
				item = encode(reflect.ValueOf(kept[k]))
			}
			node.Content = append(node.Content, textNode(k), item)
		}
	}
	return node
}

// appendJSON appends a tree made by encode as JSON.
func appendJSON(out []byte, n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		out = append(out, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendJSON(out, n.Content[i])
			out = append(out, ':')
			out = appendJSON(out, n.Content[i+1])
		}
		return append(out, '}')
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, item := range n.Content {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendJSON(out, item)
		}
		return append(out, ']')
	default:
	}
	if n.Tag != tagString {
		return append(out, n.Value...)
	}
	text, err := json.Marshal(n.Value)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return append(out, text...)
}
