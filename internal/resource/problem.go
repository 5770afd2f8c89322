package resource

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
)

// Problem is one mistake in what somebody wrote.
type Problem struct {
	File   string // as given to Parse; empty for the stored form
	Line   int    // from 1; 0 when the position is not known
	Column int    // from 1, in characters
	Path   string // where in the resource, such as spec.allow.db_labels
	Text   string // what is wrong
	Hint   string // what to write instead; may be empty
	Source string // the line of the input; may be empty
}

// String returns the problem as FILE:LINE:COL: text, followed by the line with
// a caret below the position when the line is known.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		fmt.Fprintf(&b, "%s: ", p.File)
	}
	if p.Line == 0 && p.Path != "" {
		fmt.Fprintf(&b, "%s: ", p.Path)
	}
	b.WriteString(p.Text)
	if p.Hint != "" {
		b.WriteString(", " + p.Hint)
	}
	if p.Line > 0 && p.Source != "" {
		line, caret := excerpt(p.Source, p.Column)
		number := fmt.Sprintf("%5d", p.Line)
		fmt.Fprintf(&b, "\n%s | %s\n%*s | %s", number, line, len(number), "", caret)
	}
	return b.String()
}

// excerptWidth bounds the printed part of a source line, so that an error in a
// minified file does not fill the screen.
const excerptWidth = 120

// excerpt returns the part of a source line around column, made printable, and
// the line with the caret that goes below it.
func excerpt(source string, column int) (line, caret string) {
	runes := []rune(source)
	at := min(max(column-1, 0), len(runes))
	start := 0
	if at > excerptWidth-20 {
		start = at - excerptWidth/2
	}
	end := min(len(runes), start+excerptWidth)
	for i, r := range runes {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			runes[i] = ' ' // a terminal must not see control characters of the input
		}
	}
	return string(runes[start:end]), strings.Repeat(" ", at-start) + "^"
}

// Problems is every mistake found in one input, in the order of the input.
type Problems []Problem //nolint:errname // a list of Problem, which is also what goes into an error

// maxShownProblems bounds the text of one error; a file with more mistakes is
// not a role file but something else.
const maxShownProblems = 50

// Error lists the problems, one after the other.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == maxShownProblems {
			fmt.Fprintf(&b, "and %d more", len(ps)-i)
			break
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// err returns the problems as an Invalid fault, or nil when there is none.
// errors.As finds the Problems inside.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, ps.Error()).WithCause(ps)
}
