package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// TestAdminAsSuperuser needs neither CREATEROLE nor ADMIN OPTION.
func TestAdminAsSuperuser(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Version: pgtest.Newest(t)})
	env.Server.Exec(t, `ALTER USER "teleport-admin" SUPERUSER NOCREATEROLE`, "CREATE ROLE reader")
	env.Apply(t, testenv.Role("readers", "best_effort_drop", "reader"))
	env.AddUser(t, "alice", []string{"readers"}, nil)
	conn := env.As(t, "alice").Connect(t, "example", "postgres")
	want := testenv.Account{Exists: true, Login: true, Roles: []string{"reader", testenv.Group}}
	if diff := cmp.Diff(want, env.Account(t, "alice")); diff != "" {
		t.Errorf("during the session (-want +got):\n%s", diff)
	}
	testenv.Close(t, conn)
	awaitAccount(t, env, "alice", testenv.Account{})
}

// TestAdminUsesItsDefaultDatabase: it needs no CONNECT on that of the session.
func TestAdminUsesItsDefaultDatabase(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, database(env, "central", "  admin_user: {name: teleport-admin, default_database: postgres}\n"))
	guest := env.Hire(t, "guest", "keep", "guest_reader")
	name := env.Server.Database(t)
	env.Server.Exec(t, "REVOKE CONNECT ON DATABASE "+name+" FROM PUBLIC", "GRANT CONNECT ON DATABASE "+name+" TO guest_reader")
	awaitServed(t, env, "central")
	if got := text(t, guest.Connect(t, "central", name), "SELECT current_database()"); got != name {
		t.Errorf("connected to %s", got)
	}
}

// TestAdminWithoutCreateRole reads which statement repairs it.
func TestAdminWithoutCreateRole(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, `CREATE ROLE "weak-admin" LOGIN`)
	env.Apply(t, database(env, "weak", "  admin_user: weak-admin\n"))
	awaitServed(t, env, "weak")
	refusal{"42501", "lacks CREATEROLE", `ALTER ROLE "weak-admin" CREATEROLE;`}.
		check(t, env.Hire(t, "unlucky", "keep", "unlucky_reader").Refused(t, "weak", "postgres"))
}

// TestServerThatShowsTheWrongCertificate is not talked to.
func TestServerThatShowsTheWrongCertificate(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	stranger := pgtest.Start(t, pgtest.Options{}) // of authorities of its own
	stranger.Exec(t, `CREATE USER "teleport-admin" LOGIN CREATEROLE`)
	env.Apply(t, "kind: db\nversion: v3\nmetadata: {name: stranger}\nspec: {protocol: postgres, uri: '"+stranger.Addr()+"', admin_user: {name: teleport-admin}}\n",
		database(env, "renamed", "  admin_user: teleport-admin\n  tls: {server_name: other.example.com}\n"),
		database(env, "anyname", "  admin_user: teleport-admin\n  tls: {mode: verify-ca, server_name: other.example.com}\n"))
	wary := env.Hire(t, "wary", "keep", "wary_reader")
	for _, name := range []string{"stranger", "renamed"} {
		awaitServed(t, env, name)
		if got := wary.Refused(t, name, "postgres"); got.Code != "57P03" || got.Hint == "" || !contains(got.Message+got.Detail, "certificate") {
			t.Errorf("%s: got %s %s\ndetail: %s\nhint: %s", name, got.Code, got.Message, got.Detail, got.Hint)
		}
	}
	awaitServed(t, env, "anyname")
	wary.Connect(t, "anyname", "postgres")
}
