package testenv

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// DBRole makes roles in PostgreSQL that the admin user can hand out.
func (e *Env) DBRole(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		quoted := pgx.Identifier{name}.Sanitize()
		e.Server.Exec(t, "CREATE ROLE "+quoted)
		if e.Server.Version >= 16 {
			e.Server.Exec(t, "GRANT "+quoted+` TO "teleport-admin" WITH ADMIN OPTION`)
		}
	}
}

// Account is what PostgreSQL knows about a database user.
type Account struct {
	Exists bool
	Login  bool
	Roles  []string // it is a direct member of, sorted
}

// Account returns the account of a database user. The zero Account means that
// there is none.
func (e *Env) Account(t testing.TB, name string) Account {
	t.Helper()
	var a Account
	conn := e.Server.Superuser(t, "postgres")
	defer conn.Close(t.Context())
	err := conn.QueryRow(t.Context(), `
		SELECT count(*) > 0, coalesce(bool_or(rolcanlogin), false), coalesce((
			SELECT array_agg(g.rolname::text ORDER BY g.rolname) FROM pg_auth_members m
			JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = $1), '{}')
		FROM pg_roles WHERE rolname = $1`, name).Scan(&a.Exists, &a.Login, &a.Roles)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Roles) == 0 {
		a.Roles = nil
	}
	return a
}

// Queries returns the statements that a database user runs now. It asks the
// server's process table only, which needs no lock.
func (e *Env) Queries(t testing.TB, user string) []string {
	t.Helper()
	conn := e.Server.Superuser(t, "postgres")
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT query FROM pg_stat_activity WHERE usename = $1 AND state = 'active'", user)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// AwaitQuery waits until a database user runs a statement with this text.
func (e *Env) AwaitQuery(t testing.TB, user, part string) {
	t.Helper()
	Eventually(t, user+" runs "+part, func() bool {
		return slices.ContainsFunc(e.Queries(t, user), func(q string) bool { return strings.Contains(q, part) })
	})
}

// Eventually waits for a condition, and fails the test when it does not come.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(pause) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// pause is between two looks at a condition.
const pause = 5 * time.Millisecond

// Within waits for a condition that must come soon. The limit is that of a machine
// with nothing else to do: what counts is how often it was looked in vain, and a
// look takes longer where everything does.
func Within(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for range limit / pause {
		if condition() {
			return
		}
		time.Sleep(pause)
	}
	t.Fatalf("not within %s: %s", limit, what)
}
