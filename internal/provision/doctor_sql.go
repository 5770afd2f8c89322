package provision

import (
	"fmt"
	"strings"
	"unicode"
)

// printableName quotes an identifier so that the statement stays on one line and
// does nothing to a terminal: names that hold control characters and the like
// are written with escapes.
func printableName(name string) string {
	quoted := quote(name)
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if !strings.ContainsFunc(quoted, odd) {
		return quoted
	}
	var b strings.Builder
	b.WriteString("U&")
	for _, r := range quoted {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case odd(r):
			fmt.Fprintf(&b, `\+%06X`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// MakeAdminSQL returns the statements that make the admin or, where the role exists,
// let it log in. Which of
// the two is needed cannot be seen from outside.
func MakeAdminSQL(admin string) []string {
	name := printableName(admin)
	return []string{
		"DO " + quoteLiteral("BEGIN CREATE ROLE "+name+"; EXCEPTION WHEN duplicate_object THEN NULL; END") + ";",
		"ALTER ROLE " + name + " LOGIN CREATEROLE;",
	}
}

func createRoleSQL(role string) string { return "CREATE ROLE " + printableName(role) + " NOLOGIN;" }

func grantAdminOptionSQL(role, admin string) string {
	return "GRANT " + printableName(role) + " TO " + printableName(admin) + " WITH ADMIN OPTION;"
}

func grantConnectSQL(database, role string) string {
	return "GRANT CONNECT ON DATABASE " + printableName(database) + " TO " + printableName(role) + ";"
}
