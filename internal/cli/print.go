package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/postern-db/postern/internal/fault"
)

// Output formats.
const (
	formatText = "text"
	formatJSON = "json"
	formatYAML = "yaml"
)

// printableText replaces control characters, with which text from elsewhere
// could command the terminal. Line ends and tabs stay.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// printable is the same for text that belongs on one line.
func printable(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(printableText(s))
}

func quote(s string) string { return strconv.Quote(s) }

// checkFormat refuses formats other than those given.
func checkFormat(format string, known ...string) error {
	for _, k := range known {
		if format == k {
			return nil
		}
	}
	return misused(fault.Newf(fault.Invalid, "unknown format %q", format).WithHint("use one of " + strings.Join(known, ", ")))
}

// writeJSON writes v for programs.
func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// writeYAML writes v with the keys and the order of its JSON.
func writeYAML(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	var node yaml.Node
	if err := yaml.Load(data, &node); err != nil { // JSON is YAML
		return fmt.Errorf("encode: %w", err)
	}
	blockStyle(&node)
	if data, err = yaml.Dump(&node); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = w.Write(data)
	return err
}

// blockStyle drops the braces and quotes that came from JSON. Strings keep the
// quotes that they need.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// write prints v in a format for programs, or calls text.
func (a *App) write(format string, v any, text func() error) error {
	switch format {
	case formatJSON:
		return writeJSON(a.Out, v)
	case formatYAML:
		return writeYAML(a.Out, v)
	}
	return text()
}

// left says how far away a moment is, to the minute.
func left(until, now time.Time) string {
	d := until.Sub(now).Round(time.Minute)
	if !until.After(now) {
		return "EXPIRED"
	}
	if d < time.Minute {
		return "less than a minute left"
	}
	return strings.TrimSuffix(d.String(), "0s") + " left"
}
