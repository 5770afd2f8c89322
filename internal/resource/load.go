package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Limits on what is read, all far above any real file. They bound time and
// memory before the content is looked at.
const (
	maxInput = 1 << 20 // bytes
	maxDepth = 64      // nested lists and mappings
)

// source is one input while it is being read: it knows how to point at places.
type source struct {
	file  string
	lines []string // nil for the stored form, which has no lines worth showing
}

// problem returns a Problem at a position of the source.
func (s source) problem(line, column int, path, text, hint string) Problem {
	p := Problem{File: s.file, Line: line, Column: column, Path: path, Text: text, Hint: hint}
	if line > 0 && line <= len(s.lines) {
		p.Source = s.lines[line-1]
	}
	return p
}

// loadYAML splits an input into documents. Documents before a syntax error are
// returned together with the problem, so that all mistakes show at once.
func loadYAML(file string, data []byte) (source, []*yaml.Node, Problems) {
	src := source{file: file}
	if len(data) > maxInput {
		return src, nil, Problems{src.problem(0, 0, "", fmt.Sprintf("the file is larger than %d bytes", maxInput), "")}
	}
	if !utf8.Valid(data) {
		return src, nil, Problems{src.problem(0, 0, "", "the file is not UTF-8 text", "")}
	}
	src.lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return src, nil, Problems{src.syntaxProblem(err)}
	}
	var docs []*yaml.Node
	for {
		var doc yaml.Node
		if err := loader.Load(&doc); errors.Is(err, io.EOF) {
			return src, docs, nil
		} else if err != nil {
			return src, docs, Problems{src.syntaxProblem(err)}
		}
		if len(doc.Content) == 1 && doc.Content[0].Tag != tagNull {
			docs = append(docs, doc.Content[0])
		}
	}
}

// syntaxProblem translates an error of the YAML library.
func (s source) syntaxProblem(err error) Problem {
	if le, ok := errors.AsType[*yaml.LoadError](err); ok {
		hint := ""
		if strings.Contains(le.Message, "tab character") || strings.Contains(le.Message, "cannot start any token") {
			hint = "YAML is indented with blanks, not tabs, and text that begins with a special character is quoted"
		}
		return s.problem(le.Mark.Line, max(le.Mark.Column, 1), "", le.Message, hint)
	}
	return s.problem(0, 0, "", err.Error(), "")
}

// loadJSON turns the stored form into the same tree that YAML gives, so that one
// decoder and one set of checks serve both. It is much faster than reading JSON
// as YAML, and follows JSON's rules for strings exactly.
func loadJSON(data []byte) (*yaml.Node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	node, err := jsonNode(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the end of the value")
	}
	return node, nil
}

func jsonNode(dec *json.Decoder, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v == '{' {
			node = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		for dec.More() {
			child, err := jsonNode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, child)
		}
		_, err := dec.Token()
		return node, err
	case string:
		return scalarNode(tagString, v), nil
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return scalarNode(tagFloat, v.String()), nil
		}
		return scalarNode(tagInt, v.String()), nil
	case bool:
		return scalarNode(tagBool, fmt.Sprint(v)), nil
	default:
		return scalarNode(tagNull, "null"), nil
	}
}

// The tags of scalar nodes that the decoder and the encoder use.
const (
	tagNull      = "!!null"
	tagString    = "!!str"
	tagInt       = "!!int"
	tagFloat     = "!!float"
	tagBool      = "!!bool"
	tagTimestamp = "!!timestamp"
)

func scalarNode(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}
