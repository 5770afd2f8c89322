package provision

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
)

// Mode says what becomes of an account after its last session.
type Mode int

// The modes. Keep is the zero value.
const (
	Keep     Mode = iota // it stays, without login and roles
	Drop                 // it is dropped, or stays as with Keep when something depends on it
	Reassign             // what it owns goes to [Inheritor] where that is harmless, then as with Drop
)

func (m Mode) String() string {
	switch m {
	case Drop:
		return "drop"
	case Reassign:
		return "reassign"
	case Keep:
	}
	return "keep"
}

// Want is what a session needs.
type Want struct {
	User   string   // the database user
	Roles  []string // the roles it is to hold, no more and no less
	Bundle string   // beside them the bundle of its database, see [Server.Bundle]; "" for none
	Mode   Mode
	// Replication gives the account the attribute of that name, for a session that
	// is a replication connection.
	Replication  bool
	DatabaseName string // the session's database; used when there is no default database
	// Chosen says that the session has chosen its roles: what policy says beside does
	// not change them while it runs.
	Chosen bool
	// Alone refuses, with a Conflict that names the sessions in the way, where the
	// account is in use with other roles. Otherwise the session gets a sibling.
	Alone bool
}

// maxName is the longest role name that PostgreSQL does not cut off (NAMEDATALEN - 1).
// Two longer names with a common beginning would become one role.
const maxName = 63

// checkName refuses names that PostgreSQL would change, misread or forbid.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fault.Newf(fault.Invalid, "the %s is empty", what)
	case len(name) > maxName:
		return fault.Newf(fault.Invalid, "%s %q is too long: %d bytes", what, name, len(name)).
			WithHint(fmt.Sprintf("PostgreSQL keeps the first %d bytes of a name only, so that two people could become one; use a shorter name", maxName))
	case strings.ContainsRune(name, 0) || !utf8.ValidString(name):
		return fault.Newf(fault.Invalid, "%s %q holds a character that PostgreSQL does not allow", what, name)
	case name == "public" || name == "none":
		// Reserved even when quoted: GRANT … TO "public" means everybody.
		return fault.Newf(fault.Invalid, "%s %q is a word with a meaning of its own in PostgreSQL", what, name)
	}
	return nil
}

// checkUser refuses names that an account cannot have.
func checkUser(user string) error {
	if err := checkName("database user", user); err != nil {
		return err
	}
	if strings.HasPrefix(user, "pg_") {
		return fault.Newf(fault.Invalid, "database user %q cannot be created: PostgreSQL reserves names that begin with pg_", user)
	}
	return nil
}

// checkRoles refuses roles that cannot be granted to the user.
func checkRoles(user string, roles []string) error {
	for _, role := range roles {
		if err := checkName("database role", role); err != nil {
			return err
		}
		if role == user {
			return fault.Newf(fault.Invalid, "database user %q cannot be granted to itself", user)
		}
	}
	return nil
}

// target is the state that a plan leads to.
type target struct {
	user  string
	login bool
	// keepRoles leaves the memberships alone, else they become exactly roles.
	keepRoles bool
	// replication is the attribute; an account that cannot log in never has it.
	replication bool
	roles       []string // sorted, without repetition and without the group
	after       Mode     // the comment says what becomes of the account after use
	chosen      bool     // the comment says that a session has chosen the roles
	sibling     bool     // the account's name stands for the roles

	bundle string // the one of roles that is a bundle
	// key is a password to set for one login; the zero key sets none.
	key key
	// erase takes the password away that a key has set.
	erase bool

	// place is what the names of the bundles begin with that the session's database
	// has. Bundles of other places belong to other sessions of the user, and are
	// left to the release. Empty: no bundle is left alone.
	place string
}

// target returns what an active account looks like.
func (s *Server) target(w Want) (target, error) {
	if err := checkUser(w.User); err != nil {
		return target{}, err
	}
	if err := checkRoles(w.User, w.Roles); err != nil {
		return target{}, err
	}
	roles := append(slices.Clone(w.Roles), s.cfg.ExtraRoles...)
	if w.Bundle != "" {
		roles = append(roles, w.Bundle)
	}
	slices.Sort(roles)
	roles = slices.DeleteFunc(slices.Compact(roles), func(r string) bool { return r == Group || r == BundleGroup })
	return target{
		user: w.User, login: true, replication: w.Replication, roles: roles, after: w.Mode, chosen: w.Chosen && !w.Alone,
		bundle: w.Bundle, place: s.place(w.DatabaseName),
	}, nil
}
