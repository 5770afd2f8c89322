package access

import (
	"regexp"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// Pattern matches text: a regular expression when it begins with ^ and ends with
// $, used exactly as written; otherwise a glob in which only * is special and the
// whole text must match. Case matters.
type Pattern struct {
	text  string
	parts []string       // of a glob, split at *; nil without one
	re    *regexp.Regexp // nil for a glob
}

// ParsePattern reads a pattern. The error says what is wrong with the regular
// expression; a glob is never wrong.
func ParsePattern(text string) (Pattern, error) {
	if strings.HasPrefix(text, "^") && strings.HasSuffix(text, "$") {
		re, err := resource.CompileRegexp(text)
		return Pattern{text: text, re: re}, err
	}
	p := Pattern{text: text}
	if strings.Contains(text, "*") {
		p.parts = strings.Split(text, "*")
	}
	return p, nil
}

// Match reports whether the pattern matches text. The time is linear in the
// lengths of both.
func (p Pattern) Match(text string) bool {
	if p.re != nil {
		return p.re.MatchString(text)
	}
	if p.parts == nil {
		return text == p.text
	}
	// The first part must begin the text and the last must end it. Those between
	// are found from left to right, each at its first place: taking a later one
	// never helps.
	rest, ok := strings.CutPrefix(text, p.parts[0])
	if !ok {
		return false
	}
	last := len(p.parts) - 1
	for _, part := range p.parts[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, p.parts[last])
}
