package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
)

// Limits of what a certificate may carry. They bound the work that a hostile
// certificate request or a careless role import can cause; no real user is near them.
const (
	maxNameBytes  = 255     // one name; PostgreSQL's own limit of 63 is the business of access
	maxValueBytes = 4 << 10 // one trait value; directory attributes can be long
)

// Validate reports the first thing in id that a certificate must not say. The
// fault is Invalid.
//
// Names go into certificates, logs and PostgreSQL, so they are printable text:
// no NUL, no line break, no invisible or direction-changing characters that make
// one user look like another.
func (id Identity) Validate() error {
	if err := checkName("user name", id.User); err != nil {
		return err
	}
	if err := checkName("cluster name", id.Cluster); err != nil {
		return err
	}
	if err := checkNames("role", id.Roles); err != nil {
		return err
	}
	for name, values := range id.Traits {
		if err := checkName("trait name", name); err != nil {
			return err
		}
		for _, v := range values {
			if err := checkText("value of trait "+name, v, maxValueBytes); err != nil {
				return err
			}
		}
	}
	if err := id.Route.validate(); err != nil {
		return err
	}
	return id.validateTimes()
}

func (id Identity) validateTimes() error {
	switch {
	case id.Expires.IsZero():
		return fault.New(fault.Invalid, "the identity has no end")
	case id.Expires.Nanosecond() != 0 || id.LoginExpires.Nanosecond() != 0:
		return fault.New(fault.Invalid, "the end of an identity must be a whole second")
	case id.Expires.UTC().Year() > 9999 || id.LoginExpires.UTC().Year() > 9999:
		return fault.New(fault.Invalid, "the end of an identity is too far in the future")
	case !id.LoginExpires.IsZero() && id.LoginExpires.Before(id.Expires):
		return fault.New(fault.Invalid, "the certificate would outlive the login behind it")
	}
	return nil
}

func (r Route) validate() error {
	if r.IsZero() {
		if r.DatabaseUser != "" || r.DatabaseName != "" || r.DatabaseRole != nil {
			return fault.New(fault.Invalid, "a route with a database user, name or roles needs a database")
		}
		return nil
	}
	if err := checkName("database", r.Database); err != nil {
		return err
	}
	if err := checkText("database user", r.DatabaseUser, maxNameBytes); err != nil {
		return err
	}
	if err := checkText("database name", r.DatabaseName, maxNameBytes); err != nil {
		return err
	}
	return checkNames("db role", r.DatabaseRole)
}

func checkNames(what string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if err := checkName(what, n); err != nil {
			return err
		}
		if seen[n] {
			return fault.Newf(fault.Invalid, "%s %q is named twice", what, n)
		}
		seen[n] = true
	}
	return nil
}

func checkName(what, name string) error {
	if name == "" {
		return fault.Newf(fault.Invalid, "%s is empty", what)
	}
	if strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") {
		return fault.Newf(fault.Invalid, "%s %q begins or ends with a space", what, name)
	}
	return checkText(what, name, maxNameBytes)
}

func checkText(what, text string, limit int) error {
	if len(text) > limit {
		return fault.Newf(fault.Invalid, "%s is longer than %d bytes", what, limit)
	}
	if !utf8.ValidString(text) {
		return fault.Newf(fault.Invalid, "%s is not valid UTF-8", what)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return fault.Newf(fault.Invalid, "%s contains the character %U", what, r).
				WithHint("use printable characters only")
		}
	}
	return nil
}
