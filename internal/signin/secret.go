package signin

import (
	"log/slog"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/postern-db/postern/internal/fault"
)

const redacted = "[redacted]"

// Password is what a person typed. Logs and fmt show "[redacted]".
type Password string

func (Password) String() string       { return redacted }
func (Password) GoString() string     { return redacted }
func (Password) LogValue() slog.Value { return slog.StringValue(redacted) }

// Token is an invitation. Logs and fmt show "[redacted]"; string(t) is the text
// that the person gets.
type Token string

func (Token) String() string       { return redacted }
func (Token) GoString() string     { return redacted }
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// What a new password must be. Length is the only rule that makes guessing
// harder; rules of composition make people predictable (NIST SP 800-63B §3.1.1).
const (
	MinPassword = 12   // characters
	MaxPassword = 1024 // bytes; more is work without use
)

func (p Password) check() error {
	switch {
	case len(p) > MaxPassword:
		return fault.Newf(fault.Invalid, "the password is longer than %d bytes", MaxPassword)
	case !utf8.ValidString(string(p)):
		return fault.New(fault.Invalid, "the password is not valid UTF-8")
	case utf8.RuneCountInString(p.normal()) < MinPassword:
		return fault.Newf(fault.Invalid, "the password is shorter than %d characters", MinPassword).
			WithHint("several words in a row are easy to remember")
	}
	return nil
}

// normal is p in normal form C: keyboards of different systems send the same
// letter in different bytes.
func (p Password) normal() string { return norm.NFC.String(string(p)) }
