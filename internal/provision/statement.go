package provision

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// action is a kind of statement.
type action int

const (
	createGroup action = iota
	createAccount
	comment  // on the account; takes the account's lock
	alter    // the account's attributes
	reset    // the account's defaults of parameters
	disown   // somebody else's membership of the account's role
	revoke   // a membership of the account
	grant    // a membership to the account
	drop     // the account
	bequeath // what the account owns, see [move]
)

// statement is one step of a plan. Its text is fixed but for quoted names.
type statement struct {
	action   action
	user     string
	text     string       // of the comment; of bequeath the whole statement
	words    []string     // of alter and createAccount: LOGIN, NOCREATEDB, …
	key      key          // of alter and createAccount: the password
	until    string       // of them: how long the password is valid; empty for no password
	database string       // of reset: the logical database; empty: all
	role     string       // of grant and revoke; of disown: who is a member
	grantor  string       // of revoke and disown: whose grant ends; empty: the one there is
	options  grantOptions // of grant
}

// grantOptions says how a membership is written.
type grantOptions int

const (
	// implied: before version 16 a membership has no options.
	implied grantOptions = iota
	// explicit: since 16 they depend on the member's INHERIT unless they are named.
	explicit
	// passive: since 16, without the right to SET ROLE.
	passive
)

// String returns the statement as SQL that may be shown: a password is left out.
func (s statement) String() string { return s.render("[redacted]") }

// sql returns the statement as it is sent.
func (s statement) sql() string { return s.render(s.key.verifier) }

// render returns the statement with this in the place of the password.
func (s statement) render(verifier string) string {
	user := quote(s.user)
	switch s.action {
	case createGroup:
		return "CREATE ROLE " + quote(Group) + " NOLOGIN"
	case createAccount:
		return "CREATE ROLE " + user + " " + strings.Join(s.attributes(verifier), " ") + " IN ROLE " + quote(Group)
	case comment:
		if s.text == "" {
			return "COMMENT ON ROLE " + user + " IS NULL"
		}
		return "COMMENT ON ROLE " + user + " IS " + quoteLiteral(s.text)
	case alter:
		return "ALTER ROLE " + user + " " + strings.Join(s.attributes(verifier), " ")
	case reset:
		if s.database != "" {
			return "ALTER ROLE " + user + " IN DATABASE " + quote(s.database) + " RESET ALL"
		}
		return "ALTER ROLE " + user + " RESET ALL"
	case disown:
		return "REVOKE " + user + " FROM " + quote(s.role) + s.grantedBy()
	case revoke:
		return "REVOKE " + quote(s.role) + " FROM " + user + s.grantedBy()
	case grant:
		sql := "GRANT " + quote(s.role) + " TO " + user
		switch s.options {
		case explicit:
			sql += " WITH ADMIN FALSE, INHERIT TRUE, SET TRUE"
		case passive:
			sql += " WITH ADMIN FALSE, INHERIT TRUE, SET FALSE"
		case implied:
		}
		return sql
	case drop:
		return "DROP ROLE " + user
	case bequeath:
		return s.text
	}
	return ""
}

// attributes returns the words with those of the password.
func (s statement) attributes(verifier string) []string {
	if s.until == "" {
		return s.words
	}
	return append(slices.Clone(s.words), "PASSWORD "+quoteLiteral(verifier), "VALID UNTIL "+quoteLiteral(s.until))
}

func (s statement) grantedBy() string {
	if s.grantor == "" {
		return ""
	}
	return " GRANTED BY " + quote(s.grantor)
}

// quote quotes an identifier.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoteLiteral quotes a string constant. COMMENT takes no parameters. It relies
// on standard_conforming_strings, which prepare sets.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// texts returns a plan as SQL.
func texts(plan []statement) []string {
	out := make([]string, len(plan))
	for i, s := range plan {
		out[i] = s.String()
	}
	return out
}
