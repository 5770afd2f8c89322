package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// spareDatabase registers a database of the test's own: the spare connections to
// one that is shared may all be somebody else's.
func spareDatabase(t *testing.T, env *testenv.Env, name string) string {
	t.Helper()
	env.Apply(t, database(env, name, "  admin_user: teleport-admin\n"))
	awaitServed(t, env, name)
	return name
}

// spareUser makes a person who connects to a registered database as a database
// user of the same name, without provisioning, and leaves a spare connection.
func spareUser(t *testing.T, env *testenv.Env, name, database string) *pgx.ConnConfig {
	t.Helper()
	env.Server.Exec(t, "CREATE ROLE "+name+" LOGIN")
	env.Apply(t, fmt.Sprintf(`{kind: role, version: v7, metadata: {name: %s}, spec: {options: {create_db_user_mode: "off"},
		allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: [%[1]s]}}}`, name))
	env.AddUser(t, name, []string{name}, nil)
	cfg := env.As(t, name).Direct(t, identity.Route{Database: database, DatabaseUser: name})
	testenv.Close(t, testenv.Connect(t, cfg))
	awaitSpares(t, env, cfg, name, 1)
	return cfg
}

// awaitSpares waits until n spare connections have been made for a database user. Each
// session asks for one, once: a busy machine is reason enough for it to come to nothing.
// Then another session of cfg asks again.
func awaitSpares(t *testing.T, env *testenv.Env, cfg *pgx.ConnConfig, user string, n int) {
	t.Helper()
	asked := 0 // by further sessions
	testenv.Eventually(t, "a spare connection is ready", func() bool {
		made, lost := 0, 0
		for line := range strings.Lines(env.Log()) {
			switch line = strings.TrimSpace(line) + " "; {
			case !strings.Contains(line, "database_user="+user+" "):
			case strings.Contains(line, `msg="spare connection ready"`):
				made++
			case strings.Contains(line, `msg="spare connection lost"`):
				lost++
			}
		}
		if made < n && lost > asked {
			asked = lost
			testenv.Close(t, testenv.Connect(t, cfg))
		}
		return made >= n
	})
}

// now returns the server's time.
func now(t *testing.T, env *testenv.Env) (now time.Time) {
	t.Helper()
	if err := env.Server.Superuser(t, "postgres").QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now); err != nil {
		t.Fatal(err)
	}
	return now
}

// begun returns when the process that serves a session was started.
func begun(t *testing.T, conn *pgx.Conn) (begun time.Time) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()").Scan(&begun); err != nil {
		t.Fatal(err)
	}
	return begun
}

// TestSpareConnectionServesTheNextSession: it is no session before, which neither
// pg_stat_activity nor the release of the account sees, and the next one after.
func TestSpareConnectionServesTheNextSession(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := env.Hire(t, "sparing", "keep", "sparing_reader").Direct(t, identity.Route{Database: spareDatabase(t, env, "sparing")})
	first := testenv.Connect(t, cfg)
	awaitSpares(t, env, cfg, "sparing", 1)
	if got := text(t, env.Server.Superuser(t, "postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'sparing'"); got != "1" {
		t.Errorf("%s sessions are listed", got)
	}
	testenv.Close(t, first)
	awaitAccount(t, env, "sparing", testenv.Account{Exists: true, Roles: []string{testenv.Group}})

	var second *pgx.Conn
	testenv.Eventually(t, "a session is served by an earlier process", func() bool {
		before := now(t, env)
		second = testenv.Connect(t, cfg)
		if begun(t, second).Before(before) {
			return true
		}
		testenv.Close(t, second)
		return false
	})
	if got := text(t, second, "SELECT session_user || ' ' || pg_has_role('sparing_reader', 'member')"); got != "sparing true" {
		t.Errorf("got %s", got)
	}
	testenv.Close(t, second)
	awaitAccount(t, env, "sparing", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

// TestSpareConnectionLetsNobodyIn who would be refused without it.
func TestSpareConnectionLetsNobodyIn(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := spareUser(t, env, "spare_fired", spareDatabase(t, env, "firing"))
	env.Server.Exec(t, "ALTER ROLE spare_fired NOLOGIN")
	refusal{code: "28000", text: "not permitted to log in"}.check(t, testenv.Refused(t, cfg))

	env.Server.Exec(t, "ALTER ROLE spare_fired LOGIN")
	testenv.Close(t, testenv.Connect(t, cfg))
	awaitSpares(t, env, cfg, "spare_fired", 2)
	env.Apply(t, testenv.Role("spare_fired", "off"))
	refusal{code: "28000", text: "access to db denied"}.check(t, testenv.Refused(t, cfg))
}

// TestSpareConnectionGoesWithItsDatabase: edited to be elsewhere, nobody reaches
// the server where it was.
func TestSpareConnectionGoesWithItsDatabase(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := spareUser(t, env, "spare_mover", spareDatabase(t, env, "moving"))
	env.Apply(t, "kind: db\nversion: v3\nmetadata: {name: moving}\nspec: {protocol: postgres, uri: 'localhost:1'}\n")
	testenv.Eventually(t, "the database is elsewhere", func() bool { return strings.Contains(env.Log(), "database=moving uri=localhost:1") })
	refusal{code: "57P03", text: "localhost:1"}.check(t, testenv.Refused(t, cfg))
}

// TestSpareConnectionToServerThatRestarts: the next session begins as if there
// had been none.
func TestSpareConnectionToServerThatRestarts(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	cfg := spareUser(t, env, "alice", testenv.Database)
	env.Server.Restart(t)
	before := now(t, env)
	if start := begun(t, testenv.Connect(t, cfg)); start.Before(before) {
		t.Errorf("the process was started at %s, before %s", start, before)
	}
}

// TestSpareConnectionThatIsDead without anybody having noticed costs a new
// connection, which the client does not see.
func TestSpareConnectionThatIsDead(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	road := newRoad(t, env.Server.Addr())
	env.Apply(t, fmt.Sprintf("kind: db\nversion: v3\nmetadata: {name: faraway}\nspec: {protocol: postgres, uri: '%s'}\n", road.Addr()))
	awaitServed(t, env, "faraway")
	cfg := spareUser(t, env, "spare_walker", "faraway")
	testenv.Eventually(t, "a spare connection was tried in vain", func() bool {
		road.mine()
		before := now(t, env)
		conn := testenv.Connect(t, cfg)
		defer testenv.Close(t, conn)
		if start := begun(t, conn); start.Before(before) {
			t.Errorf("the process was started at %s, before %s", start, before)
		}
		return road.blown.Load() > 0
	})
}

// road forwards connections.
type road struct {
	net.Listener
	age   atomic.Int64 // connections of an earlier age end when somebody sends something
	blown atomic.Int64 // connections that have ended so
}

func newRoad(t *testing.T, to string) *road {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{Listener: ln}
	var travellers sync.WaitGroup
	travellers.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			travellers.Go(func() { r.forward(t, near, to) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		travellers.Wait()
	})
	return r
}

// mine makes the connections that exist end with the next thing said to the server.
func (r *road) mine() { r.age.Add(1) }

func (r *road) forward(t *testing.T, near net.Conn, to string) {
	defer near.Close()
	far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
	if err != nil {
		return // the test is over
	}
	age := r.age.Load()
	defer context.AfterFunc(t.Context(), func() { near.Close() })()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		near.Close()
	})
	defer back.Wait()
	defer far.Close()
	packet := make([]byte, 4096)
	for {
		n, err := near.Read(packet)
		if n > 0 && r.age.Load() != age {
			r.blown.Add(1)
			return
		}
		if n > 0 {
			_, _ = far.Write(packet[:n])
		}
		if err != nil {
			return
		}
	}
}
