package resource

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Limits on regular expressions that people write. RE2 is linear in the input,
// but with a factor of the program's size, and repetitions make big programs out
// of short texts.
const (
	maxRegexpText = 1024 // bytes
	maxRegexpSize = 1000 // instructions
)

// CompileRegexp compiles an RE2 expression as it is written. The error, an
// ordinary one meant for the person who wrote it, says what is wrong with the
// expression, which may also be its size.
func CompileRegexp(text string) (*regexp.Regexp, error) {
	if len(text) > maxRegexpText {
		return nil, fmt.Errorf("the regular expression is longer than %d bytes", maxRegexpText)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("invalid regular expression: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("invalid regular expression: %w", err)
	}
	if len(program.Inst) > maxRegexpSize {
		return nil, fmt.Errorf("the regular expression %q is too complex", text)
	}
	return regexp.Compile(text)
}
