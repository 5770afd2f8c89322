package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/cli"
)

const (
	fakePID = 4711
	asCLI   = "POSTERN_TEST_AS_CLI" // makes the test program be postern, see TestMain
)

// fakeServer speaks enough PostgreSQL for psql -c. A query that contains "sleep"
// lasts until it is cancelled.
type fakeServer struct {
	sleeping  chan struct{} // a query began to sleep
	cancelled chan struct{}
	once      sync.Once
}

func newFakeServer() *fakeServer {
	return &fakeServer{sleeping: make(chan struct{}, 1), cancelled: make(chan struct{})}
}

func (s *fakeServer) session(conn *tls.Conn) {
	server := pgproto3.NewBackend(conn, conn)
	first, err := server.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if cancel, ok := first.(*pgproto3.CancelRequest); ok {
		if cancel.ProcessID == fakePID {
			s.once.Do(func() { close(s.cancelled) })
		}
		return
	}
	server.Send(&pgproto3.AuthenticationOk{})
	server.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"})
	server.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	server.Send(&pgproto3.BackendKeyData{ProcessID: fakePID, SecretKey: []byte{1, 2, 3, 4}})
	for {
		server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if server.Flush() != nil {
			return
		}
		message, err := server.Receive()
		if err != nil {
			return
		}
		query, ok := message.(*pgproto3.Query)
		if !ok {
			return
		}
		if strings.Contains(query.String, "sleep") {
			s.sleeping <- struct{}{}
			<-s.cancelled
			server.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014", Message: "canceling statement due to user request"})
			continue
		}
		user := first.(*pgproto3.StartupMessage).Parameters["user"]
		server.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("current_user"), DataTypeOID: 25, DataTypeSize: -1}}})
		server.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(user)}})
		server.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	}
}

// loggedIn returns a hub, behind which server is, and the environment of somebody
// who is logged in there.
func loggedIn(t *testing.T, server *fakeServer) (*fakeHub, []string) {
	t.Helper()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Fatal("psql is needed: run make deps")
	}
	data, err := os.MkdirTemp("", "hub") //nolint:usetesting // a socket is in it, so its path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	hub := startFakeHub(t, data, server.session)
	env := []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "POSTERN_PASSWORD=" + testPassword, "PSQL_PAGER=", "PSQLRC=/dev/null"}
	if code, _, talk := runIn(t, env, "postern", "login", "--proxy="+hub.address, "--user=alice", "--ca-pin="+hub.host.Pin()); code != 0 {
		t.Fatal(talk)
	}
	return hub, env
}

// postern returns the product as a process.
func postern(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(slices.Clone(env), asCLI+"=1", "GOCOVERDIR="+t.TempDir()) // without it, go test -cover makes the program talk
	return cmd
}

// connectCommand is a process that runs db connect with arguments for psql.
func connectCommand(t *testing.T, server *fakeServer, psqlArgs ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	args := append([]string{"db", "connect", "--db-name=shop", "example", "--", "-At"}, psqlArgs...)
	_, env := loggedIn(t, server)
	cmd := postern(t, env, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func runAsCLI() int { return cli.Main(context.Background(), os.Args, cli.SystemIO()) }

func TestRealPSQLConnects(t *testing.T) {
	t.Parallel()
	cmd, out := connectCommand(t, newFakeServer(), "-c", "select current_user")
	if err := cmd.Run(); err != nil || out.String() != "alice\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// Ctrl-C cancels the query in psql and ends neither psql's session nor us before
// psql is done; psql's exit code becomes ours.
func TestInterruptCancelsTheQuery(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	cmd, out := connectCommand(t, server, "-c", "select pg_sleep(3600)")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-server.sleeping
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 1 || !strings.Contains(out.String(), "canceling statement due to user request") {
		t.Errorf("exit code %d, %q", got, out)
	}
}

func TestPSQLExitCodeIsOurs(t *testing.T) {
	t.Parallel()
	cmd, out := connectCommand(t, newFakeServer(), "-c", "select 1", "--nonsense")
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 1 || strings.Contains(out.String(), "postern: error") {
		t.Errorf("exit code %d, %q", got, out)
	}
}

// libpq connects by itself with the settings that db env prints: it verifies the
// hub and shows the certificate of the route, whose key is in the same file.
func TestRealPSQLConnectsDirectly(t *testing.T) {
	t.Parallel()
	_, env := loggedIn(t, newFakeServer())
	_, out, talk := runIn(t, env, "postern", "db", "env", "--db-name=shop", "example")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", out+"psql -At -c 'select current_user'")
	cmd.Env = env
	got, err := cmd.CombinedOutput()
	if err != nil || string(got) != "alice\n" {
		t.Errorf("got %q, %v %s", got, err, talk)
	}
	if code, _, talk := runIn(t, env, "postern", "db", "login", "--db-name=shop", "example"); code != 0 {
		t.Fatal(talk)
	}
	cmd = exec.CommandContext(t.Context(), "psql", "-At", "-c", "select current_user", "service=main-example")
	cmd.Env = env
	if got, err := cmd.CombinedOutput(); err != nil || string(got) != "alice\n" {
		t.Errorf("by service file: %q, %v", got, err)
	}
}

func TestProxyDBServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	_, env := loggedIn(t, newFakeServer())
	cmd := postern(t, env, "proxy", "db", "--db-name=shop", "--format=json", "example")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Host, Port string
		User       string `json:"db_user"`
		Name       string `json:"db_name"`
	}
	if err := json.NewDecoder(out).Decode(&info); err != nil {
		t.Fatal(err)
	}
	psql := exec.CommandContext(t.Context(), "psql", "-At", "-c", "select current_user", "-h", info.Host, "-p", info.Port, "-U", info.User, info.Name)
	psql.Env = env
	if got, err := psql.CombinedOutput(); err != nil || string(got) != "alice\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
