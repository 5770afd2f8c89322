package agent_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestFiftySessionsOfOneUser through one local proxy: all open at once, then all
// coming and going.
func TestFiftySessionsOfOneUser(t *testing.T) {
	t.Parallel()
	const sessions = 50
	env := testenv.Start(t, testenv.Options{})
	cfg := env.Hire(t, "alice", "keep", "reader", "writer").Proxy(t, identity.Route{Database: "example"})

	conns := make([]*pgx.Conn, sessions)
	var opening sync.WaitGroup
	for i := range conns {
		opening.Go(func() { conns[i] = open(t, cfg) })
	}
	opening.Wait()
	if got := env.Sessions(t); got != sessions {
		t.Errorf("%d sessions are open", got)
	}
	var closing sync.WaitGroup
	for _, conn := range conns {
		closing.Go(func() { testenv.Close(t, conn) })
	}
	closing.Wait()
	nothingLeft(t, env, "alice")

	var coming sync.WaitGroup
	for range sessions {
		coming.Go(func() { testenv.Close(t, open(t, cfg)) })
	}
	coming.Wait()
	nothingLeft(t, env, "alice")
	if got := len(env.AwaitAudit(t, 2*sessions, of("alice", "TDB01I"))); got != 2*sessions {
		t.Errorf("%d sessions ended on record", got)
	}
	if refused := env.Audit(t, of("alice", "TDB00W", "TDB08W", "TDB09W")); len(refused) > 0 {
		t.Errorf("refused or failed: %v", refused)
	}
}

// TestTenUsersAtOnce come and go five times each, half of them to be dropped.
func TestTenUsersAtOnce(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	env.DBRole(t, "reader")
	env.Apply(t, testenv.Role("keepers", "keep", "reader"), testenv.Role("droppers", "best_effort_drop", "reader"))
	var working sync.WaitGroup
	for i := range 10 {
		name, role := fmt.Sprintf("user%d", i), []string{"keepers", "droppers"}[i%2]
		env.AddUser(t, name, []string{role}, nil)
		cfg := env.As(t, name).Proxy(t, identity.Route{Database: "example"})
		working.Go(func() {
			for range 5 {
				testenv.Close(t, open(t, cfg))
			}
		})
	}
	working.Wait()
	for i := range 10 {
		name := fmt.Sprintf("user%d", i)
		if i%2 == 0 {
			nothingLeft(t, env, name)
		} else {
			awaitAccount(t, env, name, testenv.Account{})
		}
	}
}

// open opens a session and checks that it has its rights; for goroutines of a test.
func open(t *testing.T, cfg *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := testenv.TryConnect(t, cfg)
	if err != nil {
		t.Error(err)
		return nil
	}
	var user string
	var reads bool
	if err := conn.QueryRow(t.Context(), "SELECT current_user, pg_has_role('reader', 'USAGE')").Scan(&user, &reads); err != nil || user != cfg.User || !reads {
		t.Errorf("the session of %s is of %s, reader: %t, %v", cfg.User, user, reads, err)
	}
	return conn
}

// nothingLeft waits until a user has no session, no login and no role.
func nothingLeft(t *testing.T, env *testenv.Env, user string) {
	t.Helper()
	awaitAccount(t, env, user, testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	testenv.Eventually(t, "no session is left", func() bool { return env.Sessions(t) == 0 })
	if got := text(t, env.Server.Superuser(t, "postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", user); got != "0" {
		t.Errorf("PostgreSQL still has %s processes of %s", got, user)
	}
}

// TestLastSessionReleases: while one is open, the account stays as it is.
func TestLastSessionReleases(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := env.Hire(t, "twice", "best_effort_drop", "twice_reader").Proxy(t, identity.Route{Database: "example"})
	first, second := testenv.Connect(t, cfg), testenv.Connect(t, cfg)
	testenv.Close(t, first)
	env.AwaitAudit(t, 1, of("twice", "TDB01I"))
	if got := env.Account(t, "twice"); !got.Login || len(got.Roles) != 2 {
		t.Errorf("with one session left the account is %+v", got)
	}
	exec(t, second, "SELECT 1")
	testenv.Close(t, second)
	awaitAccount(t, env, "twice", testenv.Account{})
}
