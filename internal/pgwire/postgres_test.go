package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
)

// onEachVersion runs a test on every supported version.
func onEachVersion(t *testing.T, test func(*testing.T, *pgtest.Server)) {
	for _, version := range pgtest.Versions(t) {
		t.Run(strconv.Itoa(version), func(t *testing.T) { test(t, pgtest.Shared(t, version)) })
	}
}

// connectThrough connects pgx to the gateway over TLS.
func connectThrough(t testing.TB, g *gateway, user, database string, change func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	_, clientTLS := testTLS()
	cfg, err := pgx.ParseConfig("postgres://" + g.addr + "/?sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Database, cfg.TLSConfig, cfg.Fallbacks = user, database, clientTLS, nil
	if change != nil {
		change(cfg)
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func TestSessionOnEveryVersion(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS wire_user", "CREATE ROLE wire_user LOGIN")
		g := newGateway(t, server, nil)
		for _, newest := range []string{"3.0", "3.2"} {
			conn := connectThrough(t, g, "wire_user", "postgres", func(c *pgx.ConnConfig) {
				c.MaxProtocolVersion = newest
				c.RuntimeParams = map[string]string{"application_name": "wire test", "search_path": "pg_catalog", "options": "-c statement_timeout=12345"}
			})
			var user, app, path, timeout string
			var pid uint32
			err := conn.QueryRow(t.Context(), "SELECT session_user, current_setting('application_name'), current_setting('search_path'), current_setting('statement_timeout'), pg_backend_pid()").
				Scan(&user, &app, &path, &timeout, &pid)
			if err != nil {
				t.Fatal(err)
			}
			if user != "wire_user" || app != "wire test" || path != "pg_catalog" || timeout != "12345ms" {
				t.Errorf("session: %s, %s, %s, %s", user, app, path, timeout)
			}
			if pid != conn.PgConn().PID() {
				t.Errorf("client was told pid %d, PostgreSQL says %d", conn.PgConn().PID(), pid)
			}
			if got := conn.PgConn().ParameterStatus("server_version"); !strings.HasPrefix(got, strconv.Itoa(server.Version)) {
				t.Errorf("server_version %q", got)
			}
			want := map[string]int{"3.0": 4, "3.2": 32}[newest]
			if got := len(conn.PgConn().SecretKey()); got != want {
				t.Errorf("protocol %s: cancel key of %d bytes, want %d", newest, got, want)
			}
			g.mu.Lock()
			b := g.backend[len(g.backend)-1]
			g.mu.Unlock()
			if string(b.Secret) == string(conn.PgConn().SecretKey()) {
				t.Error("PostgreSQL's cancel key reaches the client")
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}

func TestCancelOnEveryVersion(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS cancel_user", "CREATE ROLE cancel_user LOGIN")
		g := newGateway(t, server, nil)
		victim := connectThrough(t, g, "cancel_user", "postgres", nil)
		bystander := connectThrough(t, g, "cancel_user", "postgres", nil)
		super := server.Superuser(t, "postgres")
		var wg sync.WaitGroup
		sleep := func(conn *pgx.Conn, seconds float64, err *error) {
			wg.Go(func() { _, *err = conn.Exec(context.Background(), fmt.Sprintf("SELECT pg_sleep(%f)", seconds)) })
		}
		var cancelled, untouched error
		sleep(victim, 30, &cancelled)
		sleep(bystander, 0.5, &untouched)
		waitUntil(t, func() bool {
			var n int
			if err := super.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'cancel_user' AND wait_event = 'PgSleep'").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n == 2
		})
		// A wrong secret, and the right one of another session, do nothing.
		found, err := g.keys.Cancel(t.Context(), nil, victim.PgConn().PID(), bystander.PgConn().SecretKey())
		if found || err != nil {
			t.Errorf("foreign key: %v, %v", found, err)
		}
		// libpq up to 17 sends the request in clear text.
		cancelClearText(t, g.addr, victim.PgConn().PID(), victim.PgConn().SecretKey())
		wg.Wait()
		var pgErr *pgconn.PgError
		if !errors.As(cancelled, &pgErr) || pgErr.Code != "57014" {
			t.Errorf("cancelled statement: %v, want 57014", cancelled)
		}
		if untouched != nil {
			t.Errorf("other session: %v", untouched)
		}
		if err := victim.Ping(t.Context()); err != nil {
			t.Errorf("after cancel: %v", err)
		}
	})
}

func cancelClearText(t *testing.T, addr string, pid uint32, secret []byte) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	body := []byte{0, 0, 0, byte(12 + len(secret)), 4, 0xd2, 0x16, 0x2e, byte(pid >> 24), byte(pid >> 16), byte(pid >> 8), byte(pid)}
	if _, err := conn.Write(append(body, secret...)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || len(got) != 0 {
		t.Errorf("answer to a cancel request: %q, %v", got, err)
	}
}

func waitUntil(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("condition not met in time")
		}
	}
}

func TestServerErrorsPassUnchanged(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS errors_user, errors_nologin", "CREATE ROLE errors_user LOGIN", "CREATE ROLE errors_nologin")
		conn, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "errors_user")})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = conn.Start(t.Context(), StartConfig{User: "errors_user", Database: "no such database"})
		e := Refusal(err)
		if e.Code != "3D000" || e.Severity != SeverityFatal || e.PgError().Routine == "" {
			t.Errorf("got %+v", e)
		}
		conn2, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "errors_nologin")})
		if err != nil {
			t.Fatal(err)
		}
		defer conn2.Close()
		_, err = conn2.Start(t.Context(), StartConfig{User: "errors_nologin", Database: "postgres"})
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "28000" {
			t.Errorf("got %v, want 28000", err)
		}
	})
}

func TestGroupIsRemembered(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS groups_user", "CREATE ROLE groups_user LOGIN")
		var groups GroupMemory
		cfg := DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "groups_user"), Groups: &groups}
		for i := range 2 {
			conn, err := Dial(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			state := conn.tls.ConnectionState()
			t.Logf("connection %d: retry %v, group %v", i, state.HelloRetryRequest, state.CurveID)
			if i == 1 && state.HelloRetryRequest {
				t.Error("the second connection still needs a retry")
			}
			conn.Close()
		}
	})
}

func TestDirectTLS(t *testing.T) {
	server := pgtest.Shared(t, pgtest.Newest(t))
	if server.Version < 17 {
		t.Skipf("PostgreSQL %d has no direct TLS", server.Version)
	}
	server.Exec(t, "DROP ROLE IF EXISTS direct_user", "CREATE ROLE direct_user LOGIN")
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "direct_user"), Direct: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, err := conn.Start(t.Context(), StartConfig{User: "direct_user", Database: "postgres", ProtocolMinor: 2})
	if err != nil {
		t.Fatal(err)
	}
	if server.Version >= 18 && (b.Minor != 2 || len(b.Secret) != 32) {
		t.Errorf("protocol 3.%d, key of %d bytes", b.Minor, len(b.Secret))
	}
	if err := conn.Finish(t.Context()); err != nil {
		t.Errorf("finish: %v", err)
	}
}

func TestPasswordsAndSockets(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			server := pgtest.Start(t, pgtest.Options{Version: version, HBA: "hostssl all scram_user all scram-sha-256\nhostssl all plain_user all password\nhostssl all md5_user all md5\n"})
			server.Exec(t, "SET password_encryption = 'scram-sha-256'", "CREATE ROLE scram_user LOGIN PASSWORD 'pass wörd ª'", "CREATE ROLE plain_user LOGIN PASSWORD 'secret'",
				"SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'secret'", "CREATE ROLE socket_user LOGIN")
			start := func(cfg DialConfig, user string, password func(context.Context) (string, error)) (*Backend, error) {
				conn, err := Dial(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				b, err := conn.Start(t.Context(), StartConfig{User: user, Database: "postgres", Password: password})
				if err == nil {
					if err := conn.Finish(t.Context()); err != nil {
						t.Errorf("finish: %v", err)
					}
				}
				return b, err
			}
			is := func(p string) func(context.Context) (string, error) {
				return func(context.Context) (string, error) { return p, nil }
			}
			over := DialConfig{Hosts: []string{server.Addr()}, TLS: &tls.Config{RootCAs: server.ServerCA().Pool(), ServerName: server.Host}}
			for _, ok := range []struct{ user, password string }{{"scram_user", "pass wörd ª"}, {"scram_user", "pass\u00a0wörd a"}, {"plain_user", "secret"}} {
				if b, err := start(over, ok.user, is(ok.password)); err != nil || b.PID == 0 {
					t.Errorf("%s: %v", ok.user, err)
				}
			}
			if _, err := start(over, "scram_user", is("wrong")); Refusal(err).Code != "28P01" {
				t.Errorf("wrong password: %v, want 28P01", err)
			}
			if _, err := start(over, "md5_user", is("secret")); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "MD5") {
				t.Errorf("MD5: %v, want a refusal", err)
			}
			if _, err := start(over, "scram_user", nil); fault.KindOf(err) != fault.Unavailable {
				t.Errorf("no password: %v", err)
			}
			noKey := errors.New("no key")
			if _, err := start(over, "scram_user", func(context.Context) (string, error) { return "", noKey }); !errors.Is(err, noKey) {
				t.Errorf("password fails: %v", err)
			}
			sockets, err := filepath.Glob(filepath.Join(server.SocketDir(), ".s.PGSQL.*[0-9]"))
			if err != nil || len(sockets) != 1 {
				t.Fatalf("sockets %q, %v", sockets, err)
			}
			if _, err := start(DialConfig{Hosts: sockets}, "socket_user", nil); err != nil {
				t.Errorf("Unix socket: %v", err)
			}
		})
	}
}

func TestCopyAndLargeValues(t *testing.T) {
	server := pgtest.Shared(t, pgtest.Newest(t))
	server.Exec(t, "DROP ROLE IF EXISTS copy_user", "CREATE ROLE copy_user LOGIN")
	g := newGateway(t, server, nil)
	conn := connectThrough(t, g, "copy_user", "postgres", nil)
	ctx := t.Context()
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE big (n int, v text)"); err != nil {
		t.Fatal(err)
	}
	line := "7\t" + strings.Repeat("x", 300) + "\n"
	const lines = 20_000
	tag, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat(line, lines)), "COPY big FROM STDIN")
	if err != nil || tag.RowsAffected() != lines {
		t.Fatalf("COPY in: %v, %v", tag, err)
	}
	counted := &countWriter{}
	if _, err := conn.PgConn().CopyTo(ctx, counted, "COPY big TO STDOUT"); err != nil || counted.n != lines*len(line) {
		t.Fatalf("COPY out: %d bytes, %v", counted.n, err)
	}
	var value string
	if err := conn.QueryRow(ctx, "SELECT repeat('y', 30000000)").Scan(&value); err != nil || len(value) != 30_000_000 {
		t.Fatalf("large value: %d, %v", len(value), err)
	}
	if _, err := conn.PgConn().CopyFrom(ctx, io.MultiReader(strings.NewReader(line), failingReader{}), "COPY big FROM STDIN"); err == nil {
		t.Error("an aborted COPY succeeds")
	}
	if err := conn.Ping(ctx); err != nil {
		t.Errorf("after an aborted COPY: %v", err)
	}
}

type countWriter struct{ n int }

func (w *countWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, os.ErrInvalid }

func TestBackendIsGoneAfterFinish(t *testing.T) {
	server := pgtest.Shared(t, pgtest.Newest(t))
	server.Exec(t, "DROP ROLE IF EXISTS finish_user", "CREATE ROLE finish_user LOGIN")
	super := server.Superuser(t, "postgres")
	for range 20 {
		conn, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "finish_user")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Start(t.Context(), StartConfig{User: "finish_user", Database: "postgres"}); err != nil {
			t.Fatal(err)
		}
		if err := conn.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := super.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'finish_user'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 0 {
			t.Fatal("the server's process is still there after Finish")
		}
	}
}

// TestStatementsOfRealSessions lets pgx talk through the gateway and compares what
// was recorded with what was done.
func TestStatementsOfRealSessions(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS audit_user", "CREATE ROLE audit_user LOGIN")
		var heard listener
		var tracker *Statements
		g := newGateway(t, server, func() *Observe {
			tracker = NewStatements(heard.config())
			return tracker.Observe()
		})
		ctx := t.Context()
		conn := connectThrough(t, g, "audit_user", "postgres", nil)
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(conn.Exec(ctx, "CREATE TEMP TABLE t (n int, v text, d numeric, a int[], u uuid, w timestamptz)", pgx.QueryExecModeSimpleProtocol))
		when := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
		must(conn.Exec(ctx, "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6)", 7, nil, "1.50", []int{1, 2}, "7b1c1f1e-0000-4000-8000-000000000001", when))
		_, err := conn.Exec(ctx, "SELECT nothing FROM nowhere WHERE n = $1", 1)
		if err == nil {
			t.Error("a wrong statement succeeds")
		}
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1")
		batch.Queue("SELECT 1/$1::int", 0)
		batch.Queue("SELECT 3")
		if err := conn.SendBatch(ctx, batch).Close(); err == nil {
			t.Error("a batch with an error succeeds")
		}
		must(conn.PgConn().CopyFrom(ctx, strings.NewReader("1\tx\t\\N\t\\N\t\\N\t\\N\n"), "COPY t FROM STDIN"))
		must(conn.Exec(ctx, "SELECT n FROM t WHERE n = $1", 1))
		if err := conn.Close(ctx); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return len(g.results) == 1
		})
		if tracker.detached {
			t.Error("the tracker lost its way")
		}
		tracker.Close()
		var lines []string
		for _, s := range heard.got {
			var args []string
			for _, a := range s.Params {
				if a.Null {
					a.Text = "NULL"
				}
				args = append(args, a.Text)
			}
			lines = append(lines, fmt.Sprintf("%s|%s|%.12s|%s|%v|%d|%s", s.Kind, s.Outcome, s.Text.Value, strings.Join(args, ";"), s.Tags, s.Rows, s.SQLState))
		}
		want := []string{
			"query|done|CREATE TEMP ||[CREATE TABLE]|-1|",
			"execute|done|INSERT INTO |7;NULL;1.50;{1,2};7b1c1f1e-0000-4000-8000-000000000001;2024-05-06 07:08:09Z|[INSERT 0 1]|1|",
			"parse|failed|SELECT nothi||[]|-1|42P01",
			"execute|done|SELECT 1||[SELECT 1]|1|",
			"bind|failed|SELECT 1/$1:|0|[]|-1|22012", // the planner divides
			"execute|skipped|||[]|-1|",
			"execute|skipped|||[]|-1|",
			"query|done|COPY t FROM ||[COPY 1]|1|",
			"execute|done|SELECT n FRO|1|[SELECT 1]|1|",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("statements (-want +got):\n%s", diff)
		}
	})
}

func TestServerRefusesOurCertificate(t *testing.T) {
	server := pgtest.Shared(t, pgtest.Newest(t))
	stranger := newTestCA(t)
	cfg := server.ClientTLS(t, "anybody")
	cfg.Certificates = []tls.Certificate{stranger.issue(t, "anybody")}
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, TLS: cfg})
	if err == nil {
		defer conn.Close()
		_, err = conn.Start(t.Context(), StartConfig{User: "anybody", Database: "postgres"})
	}
	e := Refusal(err)
	if e.Code != "57P03" || !strings.Contains(e.Hint, "ssl_ca_file") {
		t.Errorf("got %v, hint %q", err, e.Hint)
	}
}
