package agent_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/testenv"
)

// TestDriftOfAServer compares with policy as the hub knows it.
func TestDriftOfAServer(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Service: testenv.SeedService + "  resources:\n  - labels: {\"*\": \"*\"}\n"})
	env.Server.Exec(t, "CREATE DATABASE drifting")
	exec(t, env.Server.Superuser(t, "drifting"), "CREATE TABLE t1 (n int)", `GRANT SELECT ON t1 TO "teleport-admin" WITH GRANT OPTION`)
	env.DBRole(t, "reader", "writer")
	env.Apply(t, testenv.Role("staff", "keep", "reader")+"    db_permissions:\n    - {match: {name: t1}, permissions: [select]}\n")
	env.AddUser(t, "alice", []string{"staff"}, nil)
	env.AddUser(t, "bob", []string{"staff"}, nil)
	drift := func() string {
		t.Helper()
		out, err := api.DriftDatabase().Call(t.Context(), env.Admin(), api.DriftDatabaseRequest{Name: testenv.Database})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, d := range out.Deviations {
			all = append(all, d.Check+" "+d.Role)
		}
		return strings.Join(all, ", ")
	}
	testenv.Close(t, env.As(t, "bob").Connect(t, testenv.Database, "drifting"))
	awaitAccount(t, env, "bob", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	conn := env.As(t, "alice").Connect(t, testenv.Database, "drifting")
	exec(t, conn, "SELECT * FROM t1")
	if got := drift(); got != "" {
		t.Errorf("with a session open: %s", got)
	}
	env.Server.Exec(t, "GRANT writer TO alice", "ALTER ROLE alice SET work_mem = '1MB'")
	if got := drift(); got != "settings alice, membership alice" {
		t.Errorf("after a change of the account: %s", got)
	}
	env.Remove(t, "user", "bob")
	if got := drift(); got != "settings alice, membership alice, orphan bob" {
		t.Errorf("after a user has left: %s", got)
	}
	if _, err := api.DriftDatabase().Call(t.Context(), callAs(t, env, "alice"), api.DriftDatabaseRequest{Name: testenv.Database}); fault.KindOf(err) != fault.Denied {
		t.Errorf("asked by somebody else than the owner: %v", err)
	}
	env.Apply(t, database(env, "headless", ""))
	awaitServed(t, env, "headless")
	if _, err := api.DriftDatabase().Call(t.Context(), env.Admin(), api.DriftDatabaseRequest{Name: "headless"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("of a database without an admin user: %v", err)
	}
}
