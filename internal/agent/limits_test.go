package agent_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// awaitEnd waits until the gateway ends the session and returns what it said.
func awaitEnd(t *testing.T, conn *pgx.Conn) *pgconn.PgError {
	t.Helper()
	_, err := conn.WaitForNotification(t.Context())
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("the session ended with %v", err)
	}
	return pg
}

// limitedRole is a role with these options that reaches every database.
func limitedRole(name, options string) string {
	return `kind: role
version: v7
metadata: {name: ` + name + `}
spec:
  options: {` + options + `}
  allow: {db_labels: {"*": "*"}, db_names: ["*"]}
`
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, limitedRole("sleepers", "create_db_user_mode: keep, client_idle_timeout: 1s"))
	env.AddUser(t, "sleeper", []string{"sleepers"}, nil)
	conn := env.As(t, "sleeper").Connect(t, "example", "postgres")
	if got := awaitEnd(t, conn); got.Code != "57P05" || !contains(got.Message, "idle timeout of 1s") {
		t.Errorf("the session ended with %s %s", got.Code, got.Message)
	}
	event := env.AwaitAudit(t, 1, of("sleeper", "T3006I"))[0]
	if event.Text("event") != "client.disconnect" || !contains(event.Text("reason"), "idle timeout") {
		t.Errorf("on record as %v", event)
	}
	awaitAccount(t, env, "sleeper", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

// TestSessionEndsWithTheLogin where policy says so, also when it begins to say so
// while the session runs. That a planned end comes is TestSessionEndsAtItsMaximumLength.
func TestSessionEndsWithTheLogin(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	disconnect := func(expired string) {
		env.Apply(t, limitedRole("brief", "create_db_user_mode: best_effort_drop, disconnect_expired_cert: "+expired))
	}
	disconnect("false")
	env.AddUser(t, "brief", []string{"brief"}, nil)
	route := identity.Route{Database: "example"}
	end := time.Now().Add(4 * time.Minute).Truncate(time.Second)
	id := identity.Identity{User: "brief", Cluster: env.Cluster, Roles: []string{"brief"}, Route: route, LoginExpires: end}
	cfg := env.As(t, "brief").DirectWith(t, route, forge(t, env.Authority(t, ca.User, time.Now), id))
	_, announced := connectForLong(t, cfg)
	disconnect("true")
	want := "client certificate expired at " + end.UTC().Format(time.RFC3339)
	if n := announced(); !contains(n.Message, "ends in") || !contains(n.Detail, want) || !contains(n.Hint, "postern login") {
		t.Errorf("announced as %+v", n)
	}
}

// connectForLong connects to stay: no end is announced yet. announced waits until
// one is.
func connectForLong(t *testing.T, cfg *pgx.ConnConfig) (conn *pgx.Conn, announced func() *pgconn.Notice) {
	t.Helper()
	var notices []*pgconn.Notice
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n) }
	conn = testenv.Connect(t, cfg)
	exec(t, conn, "SELECT 1")
	if len(notices) > 0 {
		t.Errorf("told too early: %+v", notices[0])
	}
	return conn, func() *pgconn.Notice {
		testenv.Eventually(t, "the end is announced", func() bool {
			exec(t, conn, "SELECT 1")
			return len(notices) > 0
		})
		return notices[0]
	}
}

// TestSessionEndsAtItsMaximumLength: it is announced, the statement that runs is
// cancelled, and a limit that policy changes counts for sessions that run.
func TestSessionEndsAtItsMaximumLength(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	limited := func(ttl string) {
		env.Apply(t, limitedRole("shortstays", "create_db_user_mode: keep, max_session_ttl: "+ttl))
	}
	limited("8h")
	env.AddUser(t, "shortstay", []string{"shortstays"}, nil)
	cfg := env.As(t, "shortstay").Proxy(t, identity.Route{Database: "example", DatabaseName: "postgres"})
	conn, announced := connectForLong(t, cfg)
	limited("4m")
	if n := announced(); n.Severity != "NOTICE" || !contains(n.Message, "ends in") || n.Hint == "" {
		t.Errorf("announced as %+v", n)
	}
	var ended error
	var running sync.WaitGroup
	running.Go(func() { _, ended = conn.Exec(t.Context(), "SELECT pg_sleep(600)") })
	env.AwaitQuery(t, "shortstay", "pg_sleep")
	limited("1s")
	running.Wait()
	if pg, ok := errors.AsType[*pgconn.PgError](ended); !ok || pg.Code != "57P01" || pg.Severity != "FATAL" || !contains(pg.Message, "has lasted for 1s") || pg.Hint == "" {
		t.Errorf("the session ended with %v", ended)
	}
	awaitAccount(t, env, "shortstay", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	if left := env.Queries(t, "shortstay"); len(left) > 0 {
		t.Errorf("%v still runs", left)
	}
	if event := env.AwaitAudit(t, 1, of("shortstay", "T3006I"))[0]; !contains(event.Text("reason"), "has lasted for 1s") {
		t.Errorf("on record as %v", event)
	}
}

// TestMaxConnections: as many sessions as policy allows, also when many come at once,
// over both ways and for several certificates of one person. What is refused says
// so; what has ended counts no more; others have their own.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, limitedRole("crowded", "create_db_user_mode: keep, max_connections: 3"))
	env.AddUser(t, "crowd", []string{"crowded"}, nil)
	env.AddUser(t, "elsewhere", []string{"crowded"}, nil)
	route := identity.Route{Database: "example"}
	crowd := env.As(t, "crowd")
	direct, again, proxy := crowd.Direct(t, route), env.As(t, "crowd").Direct(t, route), crowd.Proxy(t, route)

	const tries = 12
	conns, refusals := make(chan *pgx.Conn, tries), make(chan error, tries)
	var trying sync.WaitGroup
	for i := range tries {
		trying.Go(func() {
			conn, err := pgx.ConnectConfig(t.Context(), []*pgx.ConnConfig{direct, again, proxy}[i%3])
			if err != nil {
				refusals <- err
				return
			}
			conns <- conn
		})
	}
	trying.Wait()
	if len(conns) != 3 {
		t.Errorf("%d sessions at once, want 3", len(conns))
	}
	close(refusals)
	for err := range refusals {
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.Code != "53300" || pg.Severity != "FATAL" || !contains(pg.Message, `too many connections for user "crowd"`) || !contains(pg.Detail, "max_connections") || pg.Hint == "" {
			t.Errorf("refused with %v", err)
		}
	}
	env.AwaitAudit(t, tries-3, of("crowd", "TDB00W"))
	testenv.Connect(t, env.As(t, "elsewhere").Direct(t, route))

	testenv.Close(t, <-conns)
	testenv.Eventually(t, "there is room for another session", func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), proxy)
		if err == nil {
			conns <- conn
		}
		return err == nil
	})
	if refused := testenv.Refused(t, direct); refused.Code != "53300" {
		t.Errorf("refused with %v", refused)
	}
	close(conns)
	for conn := range conns {
		testenv.Close(t, conn)
	}
	awaitAccount(t, env, "crowd", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}
