package agent_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// served reports whether the agent serves a database.
func served(t testing.TB, env *testenv.Env, name string) bool {
	t.Helper()
	status, err := api.Status().Call(t.Context(), env.Admin(), api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(status.Databases, func(d api.DatabaseHealth) bool { return d.Name == name })
}

// TestDatabaseRegisteredAtRuntime: it is served within a second, and given up
// with its sessions when it is removed.
func TestDatabaseRegisteredAtRuntime(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	nomad := env.Hire(t, "nomad", "keep", "nomad_reader")
	env.Apply(t, database(env, "oasis", "  admin_user: teleport-admin\n"))
	testenv.Within(t, time.Second, "the database is served", func() bool { return served(t, env, "oasis") })

	conn := nomad.Connect(t, "oasis", "postgres")
	exec(t, conn, "SELECT 1")
	cfg := nomad.Direct(t, identity.Route{Database: "oasis", DatabaseName: "postgres"})
	env.Remove(t, "db", "oasis")
	testenv.Within(t, time.Second, "the database is given up", func() bool { return !served(t, env, "oasis") })
	if end := awaitEnd(t, conn); end.Code != "57P01" || !contains(end.Message, "not served any more") {
		t.Errorf("the session ended with %v", end)
	}
	awaitAccount(t, env, "nomad", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	refusal{"3D000", `database "oasis" not found`, "postern db ls"}.check(t, testenv.Refused(t, cfg))
}

// TestDatabaseIsServedAtOnce: whoever registers a database can connect to it without
// waiting for anything, and whoever removes it knows that nobody can.
func TestDatabaseIsServedAtOnce(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	pioneer := env.Hire(t, "pioneer", "keep", "pioneer_reader")
	register := func() { env.Apply(t, database(env, "frontier", "  admin_user: teleport-admin\n")) }
	register()
	cfg := pioneer.Direct(t, identity.Route{Database: "frontier", DatabaseName: "postgres"})
	var change func()
	cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		change() // the start-up message is sent right after
		return conn, nil
	}
	for range 10 {
		change = func() { env.Remove(t, "db", "frontier") }
		refusal{"3D000", "not found", "postern db ls"}.check(t, testenv.Refused(t, cfg))
		change = register
		testenv.Close(t, testenv.Connect(t, cfg))
	}
}

// TestChangedDatabaseKeepsItsSessions: what changes counts for new sessions.
func TestChangedDatabaseKeepsItsSessions(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	settler := env.Hire(t, "settler", "keep", "settler_reader")
	env.Apply(t, database(env, "village", "  admin_user: teleport-admin\n"))
	awaitServed(t, env, "village")
	conn := settler.Connect(t, "village", "postgres")
	env.Apply(t, database(env, "village", "  admin_user: {name: teleport-admin, default_database: postgres}\n"))
	second := settler.Connect(t, "village", "postgres")
	exec(t, conn, "SELECT 1")
	exec(t, second, "SELECT 1")
	testenv.Close(t, conn)
	exec(t, second, "SELECT 1")
	if !env.Account(t, "settler").Login {
		t.Error("the account was released while a session is open")
	}
	testenv.Close(t, second)
	awaitAccount(t, env, "settler", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

// TestStaticDatabaseWins over a registered one of its name.
func TestStaticDatabaseWins(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, "kind: db\nversion: v3\nmetadata: {name: example}\nspec: {protocol: postgres, uri: 'localhost:1'}\n")
	env.Hire(t, "static", "keep", "static_reader").Connect(t, "example", "postgres")
}

func TestDynamicLabelDecides(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, database(env, "labelled", "  admin_user: teleport-admin\n  dynamic_labels:\n    zone: {command: [echo, north], period: 1h}\n"),
		`kind: role
version: v7
metadata: {name: northern}
spec:
  options: {create_db_user_mode: keep}
  allow: {db_labels: {zone: north}, db_names: ["*"]}
`)
	env.AddUser(t, "northerner", []string{"northern"}, nil)
	awaitServed(t, env, "labelled")
	north := env.As(t, "northerner")
	testenv.Eventually(t, "the label is known", func() bool {
		all, err := north.Hub(t).Databases(t.Context(), api.ListDatabasesRequest{})
		return err == nil && len(all) == 1 && all[0].Name == "labelled" && all[0].Labels["zone"] == "north"
	})
	north.Connect(t, "labelled", "postgres")
}
