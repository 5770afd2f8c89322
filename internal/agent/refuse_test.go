package agent_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

func TestUnmanagedNamesakeIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	namesake := env.Hire(t, "namesake", "keep", "namesake_reader")
	env.Server.Exec(t, "CREATE ROLE namesake_old", "CREATE ROLE namesake LOGIN CREATEDB CONNECTION LIMIT 3 IN ROLE namesake_old")
	before := describeRole(t, env, "namesake")

	refusal{
		"42710", `user "namesake" already exists in this PostgreSQL database and is not managed by Postern`,
		`GRANT "teleport-auto-user" TO "namesake";`,
	}.check(t, namesake.Refused(t, "example", "postgres"))
	if diff := cmp.Diff(before, describeRole(t, env, "namesake")); diff != "" {
		t.Errorf("the account has changed (-before +after):\n%s", diff)
	}
	want := testenv.Account{Exists: true, Login: true, Roles: []string{"namesake_old"}}
	if diff := cmp.Diff(want, env.Account(t, "namesake")); diff != "" {
		t.Errorf("the account has changed (-want +got):\n%s", diff)
	}
	event := env.AwaitAudit(t, 1, of("namesake", "TDB08W"))[0]
	if event["success"] != false || !contains(event.Text("message"), "not managed") {
		t.Errorf("the event: %v", event)
	}
	if event = env.AwaitAudit(t, 1, of("namesake", "TDB00W"))[0]; event["success"] != false {
		t.Errorf("the event: %v", event)
	}
}

func describeRole(t *testing.T, env *testenv.Env, name string) string {
	t.Helper()
	return text(t, env.Server.Superuser(t, "postgres"), "SELECT to_jsonb(a)::text FROM pg_authid a WHERE rolname = $1", name)
}

func TestOtherDatabaseUserThanOneself(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	liar := env.Hire(t, "liar", "keep", "liar_reader")
	cfg := liar.Proxy(t, identity.Route{Database: "example"})
	for _, user := range []string{"postgres", "LIAR", testenv.AdminUser} {
		cfg.User = user
		got := testenv.Refused(t, cfg)
		if got.Code != "28000" && got.Code != "08P01" || !contains(got.Message, `("liar") to connect instead of "`+user+`"`) {
			t.Errorf("as %s: got %s %s", user, got.Code, got.Message)
		}
	}
	if env.Account(t, "liar").Exists {
		t.Error("an account was made for a refused session")
	}
}

func TestNameTooLongForPostgreSQL(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	name := strings.Repeat("n", 64)
	long := env.Hire(t, name, "keep", "long_reader")
	got := long.Refused(t, "example", "postgres")
	if !contains(got.Message, "63") || env.Account(t, name[:63]).Exists {
		t.Errorf("got %s %s, account %+v", got.Code, got.Message, env.Account(t, name[:63]))
	}
	fits := env.Hire(t, name[:63], "keep", "fits_reader")
	if got := text(t, fits.Connect(t, "example", "postgres"), "SELECT current_user"); got != name[:63] {
		t.Errorf("current_user is %q", got)
	}
}

// TestDatabaseUsersWithoutProvisioning: where no role provisions, db_users says
// who one may be, and nothing is created.
func TestDatabaseUsersWithoutProvisioning(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, "CREATE ROLE shared_account LOGIN")
	env.Apply(t, `kind: role
version: v7
metadata: {name: plain}
spec:
  allow:
    db_labels: {"*": "*"}
    db_names: [postgres]
    db_users: [shared_account, missing_account]
`)
	env.AddUser(t, "plain", []string{"plain"}, nil)
	plain := env.As(t, "plain")
	conn := testenv.Connect(t, plain.Proxy(t, identity.Route{Database: "example", DatabaseUser: "shared_account", DatabaseName: "postgres"}))
	if got := text(t, conn, "SELECT current_user"); got != "shared_account" {
		t.Errorf("current_user is %q", got)
	}
	testenv.Close(t, conn)
	if got := env.AwaitAudit(t, 1, of("plain", "TDB01I")); len(env.Audit(t, of("plain", "TDB08I", "TDB09I"))) != 0 {
		t.Errorf("accounts were touched, the session: %v", got)
	}
	if account := env.Account(t, "shared_account"); !account.Login {
		t.Errorf("the account was changed: %+v", account)
	}

	for _, c := range []struct {
		name  string
		route identity.Route
		want  refusal
	}{
		{"other user", identity.Route{DatabaseUser: "postgres", DatabaseName: "postgres"}, refusal{"28000", "access to db denied", ""}},
		{"other name", identity.Route{DatabaseUser: "shared_account", DatabaseName: "template1"}, refusal{"28000", "access to db denied", ""}},
		{"own name", identity.Route{DatabaseUser: "plain", DatabaseName: "postgres"}, refusal{"28000", "access to db denied", ""}},
		{"no such account", identity.Route{DatabaseUser: "missing_account", DatabaseName: "postgres"}, refusal{"28000", "missing_account", "hostssl"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.route.Database = "example"
			c.want.check(t, testenv.Refused(t, plain.Proxy(t, c.route)))
		})
	}
}

// database returns a kind db for the server of env.
func database(env *testenv.Env, name, more string) string {
	return "kind: db\nversion: v3\nmetadata:\n  name: " + name + "\nspec:\n  protocol: postgres\n  uri: " + env.Server.Addr() + "\n" + more
}

func TestDatabaseWithoutAdminUser(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, database(env, "headless", ""))
	awaitServed(t, env, "headless")
	refusal{
		"28000", "your role requires automatic database user provisioning but this database doesn't have admin user configured, contact your administrator",
		`CREATE USER "teleport-admin" LOGIN CREATEROLE`,
	}.check(t, env.Hire(t, "orphan", "keep", "orphan_reader").Refused(t, "headless", "postgres"))
}

func TestAdminUserThatDoesNotExist(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, database(env, "ghostly", "  admin_user: {name: ghost-admin}\n"))
	awaitServed(t, env, "ghostly")
	got := env.Hire(t, "haunted", "keep", "haunted_reader").Refused(t, "ghostly", "postgres")
	if !contains(got.Hint, `"ghost-admin" LOGIN CREATEROLE`) {
		t.Errorf("got %s %s\ndetail: %s\nhint: %s", got.Code, got.Message, got.Detail, got.Hint)
	}
}

func TestRoleThatDoesNotExistInPostgreSQL(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, testenv.Role("dreamers", "keep", "no_such_role"))
	env.AddUser(t, "dreamer", []string{"dreamers"}, nil)
	refusal{"42704", `role "no_such_role" does not exist`, `CREATE ROLE "no_such_role";`}.
		check(t, env.As(t, "dreamer").Refused(t, "example", "postgres"))
	if env.Account(t, "dreamer").Exists {
		t.Error("an account was left behind")
	}
}

func TestMissingConnectPrivilege(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	locked := env.Hire(t, "locked", "keep", "locked_reader")
	name := env.Server.Database(t)
	quoted := pgx.Identifier{name}.Sanitize()
	env.Server.Exec(t, "REVOKE CONNECT ON DATABASE "+name+" FROM PUBLIC")

	refusal{"42501", "permission denied for database", "GRANT CONNECT ON DATABASE " + quoted + ` TO "teleport-admin";`}.
		check(t, locked.Refused(t, "example", name))
	env.Server.Exec(t, "GRANT CONNECT ON DATABASE "+name+` TO "teleport-admin"`)
	refusal{"42501", "permission denied for database", "GRANT CONNECT ON DATABASE " + quoted + ` TO "locked_reader";`}.
		check(t, locked.Refused(t, "example", name))
	awaitAccount(t, env, "locked", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	env.Server.Exec(t, "GRANT CONNECT ON DATABASE "+name+" TO locked_reader")
	if got := text(t, locked.Connect(t, "example", name), "SELECT current_database()"); got != name {
		t.Errorf("connected to %s", got)
	}
}

func TestAdminOptionMissing(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Version: pgtest.Newest(t)})
	env.Server.Exec(t, "CREATE ROLE reader")
	env.Apply(t, testenv.Role("readers", "keep", "reader"))
	env.AddUser(t, "alice", []string{"readers"}, nil)
	alice := env.As(t, "alice")
	refusal{"42501", "ADMIN OPTION", `GRANT "reader" TO "teleport-admin" WITH ADMIN OPTION;`}.check(t, alice.Refused(t, "example", "postgres"))
	env.Server.Exec(t, `GRANT reader TO "teleport-admin" WITH ADMIN OPTION`)
	alice.Connect(t, "example", "postgres")
}

// TestReadOnlyServer: a server in recovery, as a replica is.
func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	alice := env.Hire(t, "alice", "keep", "reader")
	env.Server.Exec(t, `SELECT lo_from_bytea(1, '')`, `SELECT lo_export(1, 'standby.signal')`, `CHECKPOINT`)
	env.Server.Restart(t)
	refusal{"25006", "read-only", "primary (writer) endpoint"}.check(t, alice.Refused(t, "example", "postgres"))
}

func TestServerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	alice := env.Hire(t, "alice", "keep", "reader")
	env.Server.Stop(t)
	got := alice.Refused(t, "example", "postgres")
	if got.Code != "57P03" {
		t.Errorf("got %s %s", got.Code, got.Message)
	}
	env.Server.Restart(t)
	alice.Connect(t, "example", "postgres")
}

// awaitServed waits until the agent serves a database.
func awaitServed(t testing.TB, env *testenv.Env, name string) {
	t.Helper()
	testenv.Eventually(t, name+" is served", func() bool { return served(t, env, name) })
}
