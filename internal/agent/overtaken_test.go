package agent_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/testenv"
)

// TestOvertakenLogin: another agent's sweep releases the account between its
// activation and the login. The person does not notice, whatever the server says to
// who has lost the account's db roles, and its login with them.
func TestOvertakenLogin(t *testing.T) {
	t.Parallel()
	newest := pgtest.Newest(t)
	certificates := func(hba string) func(*testing.T) *testenv.Env {
		return func(t *testing.T) *testenv.Env {
			env := testenv.Start(t, testenv.Options{Version: newest, OnlyHBA: hba, Service: everything})
			env.Apply(t, database(env, "db", "  admin_user: teleport-admin\n"))
			return env
		}
	}
	passwords := func(t *testing.T) *testenv.Env {
		env := stockServer(t, testenv.Options{Version: newest, OnlyHBA: "host all all 127.0.0.1/32 scram-sha-256"})
		env.Apply(t, passwordDatabase("db", env.Server.Addr(), fmt.Sprintf("{name: teleport-admin, password_file: %q}", secretFile(t, adminPassword, 0o600)), ""))
		return env
	}
	tokens := func(encryption string) func(*testing.T) *testenv.Env {
		return func(t *testing.T) *testenv.Env {
			r := startRDS(t, newest)
			r.Server.Exec(t, "ALTER SYSTEM SET password_encryption = '"+encryption+"'", "SELECT pg_reload_conf()")
			r.Apply(t, r.database("db", "eu-west-1", ""))
			return r.Env
		}
	}
	for _, test := range []struct {
		name  string
		start func(*testing.T) *testenv.Env
		reads string // what the server's log says of the login; "" where it says nothing
	}{
		{"certificate", certificates(testenv.SeedHBA), "not permitted to log in"},
		{
			"certificate of members of a role, passwords of others",
			certificates("hostssl all teleport-admin,+reader 0.0.0.0/0 cert\nhostssl all all 0.0.0.0/0 scram-sha-256"), "",
		},
		{"certificate of members of a role, nothing of others", certificates("hostssl all teleport-admin,+reader 0.0.0.0/0 cert"), "no pg_hba.conf entry"},
		{"password", passwords, ""}, // its password comes after the sweep, and with it all the rest
		{"token", tokens("scram-sha-256"), "password authentication failed"},
		{"token, MD5 for everybody else", tokens("md5"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env := test.start(t)
			awaitServed(t, env, "db")
			alice := env.Hire(t, "alice", "keep", "reader")
			overtake(t, env, "alice")
			conn := alice.Connect(t, "db", "postgres")
			if got := text(t, conn, "SELECT format('%s %s', current_user, pg_has_role('reader', 'usage'))"); got != "alice t" {
				t.Errorf("session of %s, want alice with her db role", got)
			}
			if !strings.Contains(env.Server.Log(), test.reads) {
				t.Errorf("the server's log does not say %q", test.reads)
			}
			testenv.Close(t, conn)
			awaitAccount(t, env, "alice", disabled)
		})
	}
}

// TestAnotherProofIsAskedFor: a server that asks everybody for a password, and has not
// only lost sight of a db role, is not asked over and over again.
func TestAnotherProofIsAskedFor(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{
		Version: pgtest.Newest(t), OnlyHBA: "hostssl all teleport-admin 0.0.0.0/0 cert\nhostssl all all 0.0.0.0/0 scram-sha-256", Service: everything,
		Settings: map[string]string{"log_line_prefix": "user=%u ", "log_min_messages": "debug3"}, // of the end of each process
	})
	env.Apply(t, database(env, "db", "  admin_user: teleport-admin\n"))
	awaitServed(t, env, "db")
	alice := env.Hire(t, "alice", "keep", "reader")
	logins := func() int { return strings.Count(env.Server.Log(), "user=alice DEBUG:  proc_exit(0)") }
	for connects := range 2 {
		refusal{"57P03", "asks for a password", ""}.check(t, alice.Refused(t, "db", "postgres"))
		awaitAccount(t, env, "alice", disabled)
		// The first look at the account finds what it holds, the second that it has held that all along.
		testenv.Eventually(t, "two more logins", func() bool { return logins() >= 2*(connects+1) })
	}
	if n := logins(); n != 4 {
		t.Errorf("%d logins for two connects", n)
	}
}

// overtake has another agent sweep as soon as the gateway has activated a database
// user, and holds the gateway there until it has released the user's account.
func overtake(t *testing.T, env *testenv.Env, user string) {
	t.Helper()
	admin, super := env.Server.Config(t, testenv.AdminUser, "postgres"), env.Server.Superuser(t, "postgres")
	other, err := provision.New(provision.Config{
		AdminName: testenv.AdminUser,
		Connect: func(ctx context.Context, _ string) (*pgconn.PgConn, error) {
			return pgconn.ConnectConfig(ctx, &admin.Config)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	var once sync.Once
	release := func() {
		if _, err := other.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		login := true
		err := super.QueryRow(t.Context(), "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", user).Scan(&login)
		if err != nil || login {
			t.Errorf("the account is not released: login is %t, %v", login, err)
		}
	}
	t.Cleanup(func() {
		once.Do(func() { t.Error("nothing was overtaken") })
	})
	env.OnLog(func(line string) {
		if strings.Contains(line, `msg="database user activated"`) {
			once.Do(release)
		}
	})
}
