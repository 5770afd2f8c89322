package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// replicated is a gateway before a server, registered as "main", and its streaming
// replica, registered as "reader". As registrations they do not know of each other.
type replicated struct {
	*testenv.Env
	replica *pgtest.Server
}

func startReplicated(t *testing.T, version int) *replicated {
	t.Helper()
	env := testenv.Start(t, testenv.Options{Version: version, Service: everything})
	r := &replicated{Env: env, replica: env.Server.Replica(t, nil)}
	env.Apply(t, database(env, "main", "  admin_user: {name: teleport-admin}\n"), fmt.Sprintf(`kind: db
version: v3
metadata: {name: reader}
spec: {protocol: postgres, uri: %q, admin_user: {name: teleport-admin, uri: %q}}`, r.replica.Addr(), env.Server.Addr()))
	awaitServed(t, env, "main")
	awaitServed(t, env, "reader")
	return r
}

// anchors returns how many connections of the user the writer has.
func (r *replicated) anchors(t *testing.T, user string) string {
	t.Helper()
	conn := r.Server.Superuser(t, "postgres")
	defer conn.Close(t.Context())
	return text(t, conn, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", user)
}

// replicaAccount returns whether the user can log in on the replica, with how many roles.
func (r *replicated) replicaAccount(t *testing.T, user string) string {
	t.Helper()
	conn := r.replica.Superuser(t, "postgres")
	defer conn.Close(t.Context())
	return text(t, conn, `SELECT coalesce((SELECT format('login=%s roles=%s', rolcanlogin,
		(SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid)) FROM pg_roles r WHERE rolname = $1), 'none')`, user)
}

func (r *replicated) awaitReplicaAccount(t *testing.T, user, want string) {
	t.Helper()
	testenv.Eventually(t, user+" on the replica: "+want, func() bool { return r.replicaAccount(t, user) == want })
}

var (
	active   = testenv.Account{Exists: true, Login: true, Roles: []string{"reader", testenv.Group}}
	disabled = testenv.Account{Exists: true, Roles: []string{testenv.Group}}
)

func onReplica(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if got := text(t, conn, "SELECT format('%s %s', current_user, pg_is_in_recovery())"); got != "alice t" {
		t.Errorf("session of %s, want alice on a replica", got)
	}
}

func TestReplica(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, pgtest.Newest(t))
	alice := r.Hire(t, "alice", "keep", "reader")

	t.Run("a session there keeps the account", func(t *testing.T) {
		conn := alice.Connect(t, "reader", "postgres")
		onReplica(t, conn)
		awaitAccount(t, r.Env, "alice", active)
		// Another agent's session on the writer comes and goes.
		testenv.Close(t, alice.Connect(t, "main", "postgres"))
		r.AwaitAudit(t, 1, of("alice", "TDB01I"))
		awaitAccount(t, r.Env, "alice", active)
		onReplica(t, conn)
		testenv.Close(t, conn)
		awaitAccount(t, r.Env, "alice", disabled)
		r.awaitReplicaAccount(t, "alice", "login=f roles=1")
		if got := r.anchors(t, "alice"); got != "0" {
			t.Errorf("%s connections are left on the writer", got)
		}
	})
	t.Run("a session on the writer keeps it too", func(t *testing.T) {
		conn := alice.Connect(t, "main", "postgres")
		testenv.Close(t, alice.Connect(t, "reader", "postgres"))
		if got := text(t, conn, "SELECT current_user"); got != "alice" || r.Account(t, "alice").Login != true {
			t.Errorf("the account of the session is %+v", r.Account(t, "alice"))
		}
		testenv.Close(t, conn)
		awaitAccount(t, r.Env, "alice", disabled)
	})
	t.Run("lag is waited for", func(t *testing.T) {
		r.replica.Exec(t, "ALTER SYSTEM SET recovery_min_apply_delay = '300ms'", "SELECT pg_reload_conf()")
		for range 2 {
			conn := alice.Connect(t, "reader", "postgres")
			onReplica(t, conn)
			testenv.Close(t, conn)
		}
		r.replica.Exec(t, "ALTER SYSTEM RESET recovery_min_apply_delay", "SELECT pg_reload_conf()")
		awaitAccount(t, r.Env, "alice", disabled)
	})
	t.Run("the admin's connection there serves again", func(t *testing.T) {
		look := r.replica.Superuser(t, "postgres")
		admins := func() string {
			return text(t, look, "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE usename = 'teleport-admin'")
		}
		var kept string
		testenv.Eventually(t, "two sessions need one connection", func() bool { // which is not kept for ever
			kept = admins()
			testenv.Close(t, alice.Connect(t, "reader", "postgres"))
			return kept != "" && admins() == kept
		})
		exec(t, look, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'teleport-admin'")
		testenv.Close(t, alice.Connect(t, "reader", "postgres"))
		if again := admins(); again == kept {
			t.Errorf("the admin's backends on the replica are still %q", again)
		}
		awaitAccount(t, r.Env, "alice", disabled)
	})
	t.Run("a lost anchor is replaced", func(t *testing.T) {
		conn := alice.Connect(t, "reader", "postgres")
		r.Server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'")
		testenv.Eventually(t, "the session has an anchor again", func() bool { return r.anchors(t, "alice") == "1" })
		onReplica(t, conn)
		testenv.Close(t, conn)
		awaitAccount(t, r.Env, "alice", disabled)
	})
	t.Run("an account taken away ends the session", func(t *testing.T) {
		conn := alice.Connect(t, "reader", "postgres")
		r.Server.Exec(t, `GRANT "teleport-auto-user" TO alice WITH ADMIN OPTION`, // an administrator now, no account of ours
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'")
		testenv.Eventually(t, "the session is over", func() bool { return r.Sessions(t) == 0 })
		_, err := conn.Exec(t.Context(), "SELECT 1")
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "57P01" || !contains(pg.Message, "taken away on the writer", "not managed") {
			t.Errorf("the client reads %v", err)
		}
	})
}

// TestReplicaOutlivesItsWriter: the writer goes away, comes back, and goes for
// good; the replica takes its place under a running session.
func TestReplicaOutlivesItsWriter(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 0)
	alice := r.Hire(t, "alice", "keep", "reader")
	conn := alice.Connect(t, "reader", "postgres")
	onReplica(t, conn)

	r.Server.Stop(t)
	onReplica(t, conn)
	refusal{"57P03", "the writer of this replica does not serve us", ""}.check(t, alice.Refused(t, "reader", "postgres"))
	r.Server.Restart(t)
	testenv.Eventually(t, "the session has an anchor again", func() bool { return r.anchors(t, "alice") == "1" })
	onReplica(t, conn)
	testenv.Close(t, conn)
	awaitAccount(t, r.Env, "alice", disabled)
	r.awaitReplicaAccount(t, "alice", "login=f roles=1")

	conn = alice.Connect(t, "reader", "postgres")
	r.Server.Stop(t)
	r.replica.Exec(t, "SELECT pg_promote()")
	if got := text(t, conn, "SELECT format('%s %s', current_user, pg_is_in_recovery())"); got != "alice f" {
		t.Errorf("session of %s, want alice on a server that is no replica", got)
	}
	second := alice.Connect(t, "reader", "postgres")
	testenv.Close(t, conn)
	r.AwaitAudit(t, 2, of("alice", "TDB01I"))
	if got := text(t, second, "SELECT current_user"); got != "alice" || r.replicaAccount(t, "alice") != "login=t roles=2" {
		t.Errorf("the second session is %s, its account %s", got, r.replicaAccount(t, "alice"))
	}
	testenv.Close(t, second)
	r.awaitReplicaAccount(t, "alice", "login=f roles=1")
}

// TestPromotionBesideTheOldWriter: what a session leaves on the promoted server is
// found, although the former writer still answers.
func TestPromotionBesideTheOldWriter(t *testing.T) {
	t.Parallel()
	r := startReplicated(t, 0)
	alice := r.Hire(t, "alice", "keep", "reader")
	conn := alice.Connect(t, "reader", "postgres")
	r.replica.Exec(t, "SELECT pg_promote()")
	testenv.Close(t, conn)
	awaitAccount(t, r.Env, "alice", disabled)
	r.awaitReplicaAccount(t, "alice", "login=f roles=1")
	testenv.Close(t, alice.Connect(t, "reader", "postgres"))
	r.awaitReplicaAccount(t, "alice", "login=f roles=1")
}

// TestReplicaWithPasswords: the password of a login, too, has to reach the replica.
func TestReplicaWithPasswords(t *testing.T) {
	t.Parallel()
	env := stockServer(t, testenv.Options{OnlyHBA: "host all all 127.0.0.1/32 scram-sha-256"})
	replica := env.Server.Replica(t, map[string]string{"recovery_min_apply_delay": "200ms"})
	file := secretFile(t, adminPassword, 0o600)
	env.Apply(t, passwordDatabase("reader", replica.Addr(), fmt.Sprintf("{name: teleport-admin, password_file: %q, uri: %q}", file, env.Server.Addr()), ""))
	awaitServed(t, env, "reader")
	alice := env.Hire(t, "alice", "keep", "reader")
	for range 2 {
		conn := alice.Connect(t, "reader", "postgres")
		onReplica(t, conn)
		testenv.Close(t, conn)
		awaitAccount(t, env, "alice", disabled)
	}
	if strings.Contains(replica.Log(), "authentication failed") {
		t.Error("a login came to the replica before its password")
	}
	// Many at once, through two gateways that do not know of each other.
	beside := testenv.Start(t, testenv.Options{Beside: env, Service: everything})
	beside.Apply(t, passwordDatabase("reader", replica.Addr(), fmt.Sprintf("{name: teleport-admin, password_file: %q, uri: %q}", file, env.Server.Addr()), ""))
	beside.Apply(t, testenv.Role("alice", "keep", "reader"))
	beside.AddUser(t, "alice", []string{"alice"}, nil)
	awaitServed(t, beside, "reader")
	var all errgroup.Group
	for i, person := range []*testenv.Person{alice, beside.As(t, "alice")} {
		cfg := person.Proxy(t, identity.Route{Database: "reader", DatabaseName: "postgres"})
		for range 4 {
			all.Go(func() error {
				conn, err := testenv.TryConnect(t, cfg)
				if err != nil {
					return fmt.Errorf("gateway %d: %w", i, err)
				}
				return conn.Ping(t.Context())
			})
		}
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}
