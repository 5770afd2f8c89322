package resource

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Duration is a span of time, written as in Go: 30h, 1h30m, 90s. The words never
// and 0 are zero.
type Duration time.Duration

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

func (d Duration) String() string {
	text := time.Duration(d).String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// MarshalText returns what people write.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a span of time that is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	if s := string(text); s == "never" || s == "" {
		*d = 0
		return nil
	}
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write it like 30h, 1h30m or 90s", text)
	}
	if span < 0 {
		return errors.New("a duration cannot be negative")
	}
	*d = Duration(span)
	return nil
}

// Time is a point in time, written as 2026-01-31T15:04:05Z or 2026-01-31.
type Time time.Time

// Std returns t as the standard library's type.
func (t Time) Std() time.Time { return time.Time(t) }

// IsZero reports whether no time is set.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// Equal reports whether two times are the same moment.
func (t Time) Equal(u Time) bool { return t.Std().Equal(u.Std()) }

// MarshalText returns the time in RFC 3339.
func (t Time) MarshalText() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format(time.RFC3339Nano)), nil
}

// UnmarshalText reads a time; a date alone is its first moment in UTC.
func (t *Time) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			*t = Time(at.UTC())
			return nil
		}
	}
	return fmt.Errorf("%q is not a time; write it like 2026-01-31T15:04:05Z", text)
}

// CreateUserMode says what happens to a database user at the end of its last
// session. Higher modes are stronger.
type CreateUserMode int

// The modes. Their numbers are part of the stored form of other products.
const (
	ModeUnspecified               CreateUserMode = iota
	ModeOff                                      // no provisioning
	ModeKeep                                     // disable the database user
	ModeBestEffortDrop                           // drop it if it owns nothing, else disable it
	ModeBestEffortReassignAndDrop                // give away what it owns, then drop it
)

var modeNames = [...]string{"", "off", "keep", "best_effort_drop", "best_effort_reassign_and_drop"}

// String returns the mode as written in a role.
func (m CreateUserMode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("mode(%d)", int(m))
	}
	return modeNames[m]
}

// Enabled reports whether database users are created at all.
func (m CreateUserMode) Enabled() bool { return m >= ModeKeep }

// MarshalText returns the mode as written in a role.
func (m CreateUserMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads a mode by its name or number. A bare off in YAML may arrive
// as false, which is the same.
func (m *CreateUserMode) UnmarshalText(text []byte) error {
	s := string(text)
	for i, name := range modeNames {
		if s == name || s == fmt.Sprint(i) {
			*m = CreateUserMode(i)
			return nil
		}
	}
	if b, ok := parseBool(s); ok {
		if b {
			return errors.New("create_database_user_mode cannot be true")
		}
		*m = ModeOff
		return nil
	}
	hint := ""
	if n := nearest(s, modeNames[1:]); n != "" {
		hint = fmt.Sprintf(", did you mean %q?", n)
	}
	return fmt.Errorf("invalid database user mode %q%s", s, hint)
}

// keyword reads one of a closed set of words into out.
func keyword[T ~string](out *T, text []byte, what string, words ...T) error {
	known := make([]string, 0, len(words))
	for _, w := range words {
		if string(w) == string(text) {
			*out = w
			return nil
		}
		if w != "" {
			known = append(known, string(w))
		}
	}
	return fmt.Errorf("invalid %s %q, use one of %s", what, text, strings.Join(known, ", "))
}
