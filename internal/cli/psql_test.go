package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/postern-db/postern/internal/cli"
	"github.com/postern-db/postern/internal/testenv"
)

const asCLI = "POSTERN_TEST_AS_CLI" // makes the test program be postern, see TestMain

// loggedIn is somebody who is logged in at the gateway that the tests share.
type loggedIn struct {
	*testenv.Env
	name    string
	environ []string
}

// logIn hires somebody of that name and logs them in.
func logIn(t *testing.T, name string) *loggedIn {
	t.Helper()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Fatal("psql is needed: run make deps")
	}
	p := &loggedIn{Env: testenv.Shared(t), name: name}
	p.Hire(t, name, "keep")
	p.environ = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "POSTERN_PASSWORD=" + testenv.Password, "PSQL_PAGER=", "PSQLRC=/dev/null"}
	if code, _, talk := runIn(t, p.environ, "postern", "login", "--proxy="+p.Address, "--user="+name, "--ca-pin="+p.Pin); code != 0 {
		t.Fatal(talk)
	}
	return p
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
func (p *loggedIn) connectCommand(t *testing.T, psqlArgs ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	args := append([]string{"db", "connect", "--db-name=postgres", "example", "--", "-At"}, psqlArgs...)
	cmd := postern(t, p.environ, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func runAsCLI() int { return cli.Main(context.Background(), os.Args, cli.SystemIO()) }

func TestRealPSQLConnects(t *testing.T) {
	t.Parallel()
	cmd, out := logIn(t, "paula").connectCommand(t, "-c", "select current_user")
	if err := cmd.Run(); err != nil || out.String() != "paula\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// Ctrl-C cancels the query in psql and ends neither psql's session nor us before
// psql is done; psql's exit code becomes ours.
func TestInterruptCancelsTheQuery(t *testing.T) {
	t.Parallel()
	ina := logIn(t, "ina")
	cmd, out := ina.connectCommand(t, "-c", "select pg_sleep(3600)")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ina.AwaitQuery(t, ina.name, "pg_sleep")
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
	cmd, out := logIn(t, "ecco").connectCommand(t, "-c", "select 1", "--nonsense")
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 1 || strings.Contains(out.String(), "postern: error") {
		t.Errorf("exit code %d, %q", got, out)
	}
}

// libpq connects by itself with the settings that db env prints: it verifies the
// hub and shows the certificate of the route, whose key is in the same file.
func TestRealPSQLConnectsDirectly(t *testing.T) {
	t.Parallel()
	dora := logIn(t, "dora")
	_, out, talk := runIn(t, dora.environ, "postern", "db", "env", "--db-name=postgres", "example")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", out+"psql -At -c 'select current_user'")
	cmd.Env = dora.environ
	got, err := cmd.CombinedOutput()
	if err != nil || string(got) != "dora\n" {
		t.Errorf("got %q, %v %s", got, err, talk)
	}
	if code, _, talk := runIn(t, dora.environ, "postern", "db", "login", "--db-name=postgres", "example"); code != 0 {
		t.Fatal(talk)
	}
	cmd = exec.CommandContext(t.Context(), "psql", "-At", "-c", "select current_user", "service=main.test-example")
	cmd.Env = dora.environ
	if got, err := cmd.CombinedOutput(); err != nil || string(got) != "dora\n" {
		t.Errorf("by service file: %q, %v", got, err)
	}
}

func TestProxyDBServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	prue := logIn(t, "prue")
	cmd := postern(t, prue.environ, "proxy", "db", "--db-name=postgres", "--format=json", "example")
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
	psql.Env = prue.environ
	if got, err := psql.CombinedOutput(); err != nil || string(got) != "prue\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
