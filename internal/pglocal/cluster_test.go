package pglocal_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pglocal"
)

// childMark makes the test binary start a cluster, say so, and wait to be killed.
const childMark = "PGLOCAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		child()
		return
	}
	m.Run()
}

func child() {
	c, err := pglocal.Start(context.Background(), pglocal.Config{Installation: pglocal.Find()[0]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Fprintf(os.Stdout, "%s %d\n", c.SocketDir(), c.Port())
	select {}
}

func distribution(t *testing.T) pglocal.Installation {
	t.Helper()
	in, err := pglocal.Choose(pglocal.Find(), 0)
	if err != nil {
		t.Fatalf("%v: run `make deps`", err)
	}
	return in
}

func start(t *testing.T, cfg pglocal.Config) *pglocal.Cluster {
	t.Helper()
	c, err := pglocal.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func query(t *testing.T, c *pglocal.Cluster, sql string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", c.SocketDir(), c.Port(), c.Superuser()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestStartStopResumeClose(t *testing.T) {
	t.Parallel()
	c := start(t, pglocal.Config{
		Installation: distribution(t), Superuser: "chief",
		Settings: map[string]string{"work_mem": "7MB", "cluster_name": "it's ours"},
	})
	if got := query(t, c, "SELECT current_user || current_setting('work_mem') || current_setting('cluster_name')"); got != "chief7MBit's ours" {
		t.Errorf("got %q", got)
	}
	if _, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=chief sslmode=disable", c.Host(), c.Port())); err == nil {
		t.Error("TCP is open without a rule")
	}
	dir, port := filepath.Dir(c.SocketDir()), c.Port()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory of the cluster: %v, %v, want 0700", info, err)
	}
	for _, how := range []pglocal.Shutdown{pglocal.Fast, pglocal.Immediate} {
		c.Stop(how)
		c.Stop(how)
		if err := c.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.Port() != port || query(t, c, "SELECT 'there'") != "there" {
			t.Errorf("after Stop(%v) and Resume: port %d, want %d", how, c.Port(), port)
		}
	}
	if !strings.Contains(c.Log(), "ready to accept connections") {
		t.Errorf("log: %q", c.Log())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

// A killed process leaves no server behind, and its directory goes with the next start.
func TestKilledProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMark+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var socketDir, port string
	if _, err := fmt.Sscan(line, &socketDir, &port); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			break
		}
		_ = conn.Close()
		if time.Now().After(end) {
			t.Fatal("the server still runs")
		}
	}

	dir := filepath.Dir(socketDir)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "lock"), old, old); err != nil {
		t.Fatal(err)
	}
	start(t, pglocal.Config{Installation: distribution(t)})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

// Root may keep its clone where nobody else can read it.
func TestInstallationThatTheServersUserCannotRead(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as somebody else")
	}
	found := pglocal.Find("../../.pg")
	if len(found) == 0 || strings.HasPrefix(found[0].Dir, "/usr/") {
		t.Fatal("no server in .pg: run `make deps`")
	}
	hidden := t.TempDir()
	if err := os.Chmod(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	in := pglocal.Installation{Major: found[0].Major, Dir: filepath.Join(hidden, "server")}
	if err := os.CopyFS(in.Dir, os.DirFS(found[0].Dir)); err != nil {
		t.Fatal(err)
	}
	if got := query(t, start(t, pglocal.Config{Installation: in}), "SELECT 'runs'"); got != "runs" {
		t.Errorf("got %q", got)
	}
}

func TestStartReportsWhatInitdbSays(t *testing.T) {
	t.Parallel()
	_, err := pglocal.Start(t.Context(), pglocal.Config{Installation: distribution(t), Superuser: "pg_reserved"})
	if f := fault.Of(err); f.Kind != fault.Unavailable || !strings.Contains(f.Detail, "pg_") {
		t.Errorf("got %v with detail %q", err, f.Detail)
	}
	_, err = pglocal.Start(t.Context(), pglocal.Config{Installation: distribution(t), Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want the reason from the log", err)
	}
}
