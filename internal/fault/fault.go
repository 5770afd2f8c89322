// Package fault gives errors a kind, a text that the user may read and a hint
// that says what to do next.
//
// Make one with [New] at the place that knows what went wrong; add context on
// the way up with fmt.Errorf and %w. An error that carries no fault is
// [Internal]: it is logged in full and shown as "internal error".
//
// Kinds become something else in exactly three tables: HTTP status (api),
// SQLSTATE (pgwire) and exit code (cli).
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind classifies an error by what the caller can do about it.
type Kind int

// The kinds. The zero value is Internal, so that forgetting a kind hides
// detail instead of showing it.
const (
	Internal        Kind = iota // our bug or an unexpected failure
	Invalid                     // the input is wrong; asking again unchanged will not help
	Unauthenticated             // who is asking is not proven
	Denied                      // proven, but not allowed
	NotFound                    // what was named does not exist
	Conflict                    // exists already, or changed meanwhile
	Unavailable                 // something this depends on is down or busy; try again
)

func (k Kind) String() string {
	switch k {
	case Internal:
		return "internal"
	case Invalid:
		return "invalid"
	case Unauthenticated:
		return "unauthenticated"
	case Denied:
		return "denied"
	case NotFound:
		return "not found"
	case Conflict:
		return "conflict"
	case Unavailable:
		return "unavailable"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// ParseKind is the inverse of [Kind.String]; unknown text is Internal.
func ParseKind(s string) Kind {
	for k := Internal; k <= Unavailable; k++ {
		if k.String() == s {
			return k
		}
	}
	return Internal
}

// Error is an error with a kind and texts meant for the user.
type Error struct {
	Kind   Kind
	Text   string // what happened, in words the user may read
	Detail string // facts that belong to it; may be empty
	Hint   string // what to do next; may be empty
	Cause  error  // for the log and errors.Is; not shown, except that what PostgreSQL reported goes to the client; may be nil
}

// New returns an error of kind k whose text the user may read.
func New(k Kind, text string) *Error { return &Error{Kind: k, Text: text} }

// Newf is [New] with a format. A %w verb sets the cause, whose text then
// becomes part of what the user reads.
func Newf(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Text: err.Error(), Cause: errors.Unwrap(err)}
}

// WithHint returns a copy of e with the hint set.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// WithDetail returns a copy of e with the detail set.
func (e *Error) WithDetail(detail string) *Error {
	c := *e
	c.Detail = detail
	return &c
}

// WithCause returns a copy of e that wraps err. The cause is logged, not shown.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.Cause = err
	return &c
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of the outermost fault in err's chain, or Internal.
// KindOf(nil) is Internal too: ask only about errors.
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*Error](err); ok {
		return f.Kind
	}
	return Internal
}

// Of returns the outermost fault in err's chain. Without one it returns an
// Internal fault that wraps err and shows none of it.
func Of(err error) *Error {
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	return New(Internal, "internal error").WithCause(err)
}

// Chain returns everything known about err, for logs: the full wrapped text and
// the causes that faults hide, each where the text does not say it yet.
func Chain(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for f, ok := errors.AsType[*Error](err); ok && f.Cause != nil; f, ok = errors.AsType[*Error](f.Cause) {
		if cause := f.Cause.Error(); !strings.Contains(text, cause) {
			text += ": " + cause
		}
	}
	return text
}
