package agent_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestInterruptCancelsInPSQL: Ctrl-C in a real psql, whose cancel request comes in
// clear text on a connection of its own.
func TestInterruptCancelsInPSQL(t *testing.T) {
	t.Parallel()
	psql, err := osexec.LookPath("psql")
	if err != nil {
		t.Fatalf("psql is needed: %v", err)
	}
	env := testenv.Shared(t)
	cfg := env.Hire(t, "hasty", "keep", "hasty_reader").Proxy(t, identity.Route{Database: "example"})
	cmd := osexec.CommandContext(t.Context(), psql, "-X", "-v", "ON_ERROR_STOP=1", "-c", "SELECT pg_sleep(600)")
	cmd.Env = append(os.Environ(), "PGHOST="+cfg.Host, "PGPORT="+strconv.Itoa(int(cfg.Port)), "PGUSER=hasty", "PGDATABASE=postgres", "PGSSLMODE=disable")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	env.AwaitQuery(t, "hasty", "pg_sleep")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !contains(out.String(), "canceling statement due to user request") {
		t.Errorf("psql ended with %v and said: %s", err, out.String())
	}
	awaitAccount(t, env, "hasty", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

// TestCancelAtThePublicPort: a native client without a local proxy, which sends
// its cancel request to the public port in clear text.
func TestCancelAtThePublicPort(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := testenv.Connect(t, env.Hire(t, "native", "keep", "native_reader").Direct(t, identity.Route{Database: "example"}))
	var slept error
	var sleeping sync.WaitGroup
	sleeping.Go(func() { _, slept = conn.Exec(t.Context(), "SELECT pg_sleep(600)") })
	env.AwaitQuery(t, "native", "pg_sleep")
	sendCancel(t, "tcp", env.Address, conn.PgConn().PID(), []byte("nope"))
	if len(env.Queries(t, "native")) != 1 {
		t.Fatal("a wrong key cancelled the statement")
	}
	sendCancel(t, "tcp", env.Address, conn.PgConn().PID(), conn.PgConn().SecretKey())
	sleeping.Wait()
	if pg, ok := errors.AsType[*pgconn.PgError](slept); !ok || pg.Code != "57014" {
		t.Errorf("the statement ended with %v", slept)
	}
}

// TestSessionInClearText: whoever comes without TLS is told so.
func TestSessionInClearText(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := env.Hire(t, "careless", "keep").Direct(t, identity.Route{Database: "example"})
	cfg.TLSConfig = nil
	if refused := testenv.Refused(t, cfg); refused.Code != "28000" || !contains(refused.Message+refused.Hint, "TLS only", "sslmode=verify-full") {
		t.Errorf("got %+v", refused)
	}
}

// TestCancelKey: the process id is PostgreSQL's own, the secret is not, and only
// the right pair cancels.
func TestCancelKey(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := env.Hire(t, "patient", "keep", "patient_reader").Proxy(t, identity.Route{Database: "example"})
	conn := testenv.Connect(t, cfg)
	pid, secret := conn.PgConn().PID(), conn.PgConn().SecretKey()
	if got := text(t, conn, "SELECT pg_backend_pid()::text"); got != strconv.Itoa(int(pid)) {
		t.Errorf("the client was told pid %d, PostgreSQL says %s", pid, got)
	}
	var slept error
	var sleeping sync.WaitGroup
	sleeping.Go(func() { _, slept = conn.Exec(t.Context(), "SELECT pg_sleep(600)") })
	env.AwaitQuery(t, "patient", "pg_sleep")

	socket := filepath.Join(cfg.Host, ".s.PGSQL."+strconv.Itoa(int(cfg.Port)))
	wrong := bytes.Clone(secret)
	wrong[0] ^= 1
	sendCancel(t, "unix", socket, pid, wrong)
	sendCancel(t, "unix", socket, pid+1, secret)
	sendCancel(t, "unix", socket, pid, secret[:3])
	sendCancel(t, "unix", socket, pid, nil)
	sendCancel(t, "tcp", env.Server.Addr(), pid, secret) // PostgreSQL does not know it
	if len(env.Queries(t, "patient")) != 1 {
		t.Fatal("a wrong key cancelled the statement")
	}
	sendCancel(t, "unix", socket, pid, secret)
	sleeping.Wait()
	if pg, ok := errors.AsType[*pgconn.PgError](slept); !ok || pg.Code != "57014" {
		t.Errorf("the statement ended with %v", slept)
	}
	exec(t, conn, "SELECT 1")
	testenv.Close(t, conn)
	sendCancel(t, "unix", socket, pid, secret) // for a session that is over
}

// TestCancelHitsOnlyItsSession: over TLS at the public port, as libpq 17 sends it,
// and without a certificate.
func TestCancelHitsOnlyItsSession(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	cfg := env.Hire(t, "pair", "keep", "pair_reader").Direct(t, identity.Route{Database: "example"})
	var conns [2]*pgx.Conn
	var ended [2]chan error
	for i := range conns {
		conns[i], ended[i] = testenv.Connect(t, cfg), make(chan error, 1)
		go func() {
			_, err := conns[i].Exec(t.Context(), "SELECT pg_sleep(600)")
			ended[i] <- err
		}()
	}
	testenv.Eventually(t, "both sleep", func() bool { return len(env.Queries(t, "pair")) == 2 })
	first, second := conns[0].PgConn(), conns[1].PgConn()
	anonymous := cfg.TLSConfig.Clone()
	anonymous.Certificates = nil
	cancel := func(pid uint32, secret []byte) {
		conn, err := (&tls.Dialer{Config: anonymous}).DialContext(t.Context(), "tcp", env.Address)
		if err != nil {
			t.Fatal(err)
		}
		cancelOn(t, conn, pid, secret)
	}
	cancel(second.PID(), first.SecretKey())
	cancel(first.PID(), second.SecretKey())
	if n := len(env.Queries(t, "pair")); n != 2 {
		t.Fatalf("a key of another session cancelled: %d are left", n)
	}
	cancel(first.PID(), first.SecretKey())
	if pg, ok := errors.AsType[*pgconn.PgError](<-ended[0]); !ok || pg.Code != "57014" {
		t.Errorf("the statement ended with %v", pg)
	}
	if n := len(env.Queries(t, "pair")); n != 1 {
		t.Errorf("%d statements are left, want that of the other session", n)
	}
	cancel(second.PID(), second.SecretKey())
	if err := <-ended[1]; err == nil {
		t.Error("the other statement ended by itself")
	}
}

// TestCancelLimiterAtThePublicPort: whoever guesses keys does not learn whether the
// next one is right, for it is not looked at. Others cancel as ever, and so does the
// same source when it has stopped guessing.
func TestCancelLimiterAtThePublicPort(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	var later atomic.Int64 // added to the agent's clock, which stands still
	env := testenv.Start(t, testenv.Options{
		Service: testenv.SeedService + testenv.ServeMetrics, Hub: "proxy_protocol: [127.0.0.1]",
		Now: func() time.Time { return begin.Add(time.Duration(later.Load())) },
	})
	guesser := balancer(t, env.Address, "PROXY TCP4 192.0.2.1 192.0.2.99 4711 443\r\n")
	other := balancer(t, env.Address, "PROXY TCP4 192.0.2.2 192.0.2.99 4711 443\r\n")
	env.Address = other
	conn := testenv.Connect(t, env.Hire(t, "guessed", "keep", "guessed_reader").Direct(t, identity.Route{Database: "example"}))
	pid, secret := conn.PgConn().PID(), conn.PgConn().SecretKey()
	refused := func(n int) bool {
		return strings.Contains(env.Metrics(t), fmt.Sprintf("\npostern_cancels_refused_total %d\n", n))
	}
	sleep := func() (ended <-chan error) {
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), "SELECT pg_sleep(600)")
			done <- err
		}()
		env.AwaitQuery(t, "guessed", "pg_sleep")
		return done
	}
	cancelled := func(err error) {
		t.Helper()
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "57014" {
			t.Errorf("the statement ended with %v", err)
		}
	}

	ended := sleep()
	wrong := bytes.Clone(secret)
	for i := 0; refused(0); i++ {
		if i == 1000 {
			t.Fatal("a thousand guesses are allowed")
		}
		wrong[0]++
		if bytes.Equal(wrong, secret) {
			wrong[0]++
		}
		sendCancel(t, "tcp", guesser, pid, wrong)
	}
	sendCancel(t, "tcp", guesser, pid, secret)
	if !refused(2) {
		t.Error("the right key of a source that guesses is looked at")
	}
	if len(env.Queries(t, "guessed")) != 1 {
		t.Fatal("a source that guesses cancelled the statement")
	}
	sendCancel(t, "tcp", other, pid, secret)
	cancelled(<-ended)

	ended = sleep()
	later.Add(int64(time.Second))
	sendCancel(t, "tcp", guesser, pid, secret)
	cancelled(<-ended)
	if !refused(2) {
		t.Error("others than the one that guesses are refused")
	}
}

// sendCancel sends a CancelRequest and waits until the other side closes.
func sendCancel(t *testing.T, network, address string, pid uint32, secret []byte) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	cancelOn(t, conn, pid, secret)
}

// cancelOn sends a CancelRequest on conn.
func cancelOn(t *testing.T, conn net.Conn, pid uint32, secret []byte) {
	t.Helper()
	defer conn.Close()
	packet := binary.BigEndian.AppendUint32(nil, uint32(12+len(secret)))
	packet = binary.BigEndian.AppendUint32(packet, 80877102)
	packet = binary.BigEndian.AppendUint32(packet, pid)
	if _, err := conn.Write(append(packet, secret...)); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); len(answer) > 0 && answer[0] != 'E' {
		t.Errorf("a cancel request was answered with %q", answer)
	}
}
