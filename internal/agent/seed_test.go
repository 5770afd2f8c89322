package agent_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// seedFile returns a file of the seed guide, as it stands there.
func seedFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../testdata/seed/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestSeedGuide walks through the seed guide on every version of PostgreSQL.
func TestSeedGuide(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			env := testenv.Start(t, testenv.Options{Version: version})
			env.DBRole(t, "reader", "writer")
			env.Server.Exec(t, "CREATE DATABASE app")
			env.Apply(t, seedFile(t, "role-auto-db-users.yaml"))
			env.AddUser(t, "alice", []string{"auto-db-users"}, nil)
			env.AddUser(t, "bob", []string{"auto-db-users"}, map[string][]string{"db_roles": {"writer"}})

			t.Run("keep", func(t *testing.T) { keepLeavesADisabledUser(t, env) })
			t.Run("traits", func(t *testing.T) { traitGivesRole(t, env) })
			t.Run("drop", func(t *testing.T) { dropRemovesTheUser(t, env) })
			t.Run("drop of an owner", func(t *testing.T) { dropKeepsAnOwner(t, env) })
			t.Run("reassign and drop", func(t *testing.T) { reassignGivesAway(t, env) })
		})
	}
}

func keepLeavesADisabledUser(t *testing.T, env *testenv.Env) {
	conn := env.As(t, "alice").Connect(t, "example", "app")
	if got := text(t, conn, "SELECT current_user"); got != "alice" {
		t.Errorf("current_user is %q", got)
	}
	if got := text(t, conn, "SELECT current_database()"); got != "app" {
		t.Errorf("connected to %q", got)
	}
	during := testenv.Account{Exists: true, Login: true, Roles: []string{"reader", testenv.Group}}
	if diff := cmp.Diff(during, env.Account(t, "alice")); diff != "" {
		t.Errorf("during the session (-want +got):\n%s", diff)
	}
	testenv.Close(t, conn)
	awaitAccount(t, env, "alice", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

func traitGivesRole(t *testing.T, env *testenv.Env) {
	conn := env.As(t, "bob").Connect(t, "example", "app")
	want := testenv.Account{Exists: true, Login: true, Roles: []string{"reader", testenv.Group, "writer"}}
	if diff := cmp.Diff(want, env.Account(t, "bob")); diff != "" {
		t.Errorf("during the session (-want +got):\n%s", diff)
	}
	testenv.Close(t, conn)
	awaitAccount(t, env, "bob", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

func dropRemovesTheUser(t *testing.T, env *testenv.Env) {
	env.Apply(t, testenv.Role("droppers", "best_effort_drop", "reader"))
	env.AddUser(t, "carol", []string{"droppers"}, nil)
	conn := env.As(t, "carol").Connect(t, "example", "app")
	want := testenv.Account{Exists: true, Login: true, Roles: []string{"reader", testenv.Group}}
	if diff := cmp.Diff(want, env.Account(t, "carol")); diff != "" {
		t.Errorf("during the session (-want +got):\n%s", diff)
	}
	testenv.Close(t, conn)
	awaitAccount(t, env, "carol", testenv.Account{})
	event := env.AwaitAudit(t, 1, of("carol", "TDB09I"))[0]
	if event["delete"] != true {
		t.Errorf("the event says delete %v", event["delete"])
	}
}

// dropKeepsAnOwner: someone who owns a table cannot be dropped, but loses login
// and roles, and owns the table again at the next session.
func dropKeepsAnOwner(t *testing.T, env *testenv.Env) {
	env.Server.Superuser(t, "app").Exec(t.Context(), "GRANT CREATE ON SCHEMA public TO PUBLIC") //nolint:errcheck // 14 and older do so by default
	env.AddUser(t, "dave", []string{"droppers"}, nil)
	dave := env.As(t, "dave")
	conn := dave.Connect(t, "example", "app")
	exec(t, conn, "CREATE TABLE daves (n int)")
	env.Server.Exec(t, "CREATE TABLE elsewhere (n int)", "ALTER TABLE elsewhere OWNER TO dave") // in another database
	testenv.Close(t, conn)
	awaitAccount(t, env, "dave", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	event := env.AwaitAudit(t, 1, of("dave", "TDB09I"))[0]
	if event["delete"] != false || !contains(event.Text("message"), "disabled instead of dropped", "depend", "owner of table public.daves", "1 object in database postgres") {
		t.Errorf("the event says delete %v because %q", event["delete"], event.Text("message"))
	}

	env.Server.Exec(t, "DROP TABLE elsewhere")
	conn = dave.Connect(t, "example", "app")
	exec(t, conn, "INSERT INTO daves VALUES (1)", "DROP TABLE daves")
	testenv.Close(t, conn)
	awaitAccount(t, env, "dave", testenv.Account{})
}

// reassignGivesAway: what is harmless goes to the inheritor once there is one, and the record says what.
func reassignGivesAway(t *testing.T, env *testenv.Env) {
	env.Apply(t, testenv.Role("givers", "best_effort_reassign_and_drop", "reader"))
	env.AddUser(t, "erin", []string{"givers"}, nil)
	conn := env.As(t, "erin").Connect(t, "example", "app")
	exec(t, conn, "CREATE TABLE erins (n int)")
	testenv.Close(t, conn)
	awaitAccount(t, env, "erin", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	event := env.AwaitAudit(t, 1, of("erin", "TDB09I"))[0]
	if event["delete"] != false || !contains(event.Text("message"), "owner of table public.erins", "not given away", `"teleport-object-inheritor" does not exist`) {
		t.Errorf("the event says delete %v because %q", event["delete"], event.Text("message"))
	}
	found := doctor(t, env, "example")
	if len(found) != 1 || found[0].Check != "inheritor" || !contains(found[0].Breaks, "erin") {
		t.Fatalf("doctor: %+v", found)
	}
	env.Server.Exec(t, found[0].SQL...)
	if found := doctor(t, env, "example"); len(found) != 0 {
		t.Errorf("after the repair: %+v", found)
	}

	testenv.Close(t, env.As(t, "erin").Connect(t, "example", "app"))
	awaitAccount(t, env, "erin", testenv.Account{})
	testenv.Eventually(t, "it is on record who got the table", func() bool { // from the session, or a sweep before it
		return slices.ContainsFunc(env.Audit(t, of("", "TDB09I")), func(e testenv.Event) bool {
			return e["delete"] == true && contains(e.Text("message"), "given to teleport-object-inheritor: table public.erins")
		})
	})
}

// text returns the one value of a query.
func text(t *testing.T, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var value string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// awaitAccount waits until PostgreSQL has the account as wanted.
func awaitAccount(t *testing.T, env *testenv.Env, name string, want testenv.Account) {
	t.Helper()
	var got testenv.Account
	testenv.Eventually(t, fmt.Sprintf("account %s is %+v", name, want), func() bool {
		got = env.Account(t, name)
		return got.Exists == want.Exists && got.Login == want.Login && slices.Equal(got.Roles, want.Roles)
	})
}
