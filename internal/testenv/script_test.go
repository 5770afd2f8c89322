package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/cli"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/pglocal"
	"github.com/postern-db/postern/internal/pgtest"
)

func TestMain(m *testing.M) {
	program := func() {
		os.Exit(cli.Main(context.Background(), os.Args, cli.SystemIO())) //nolint:forbidigo // this is main, under the name of the program
	}
	testscript.Main(m, map[string]func(){"postern": program, "tsh": program, "tctl": program})
}

// TestScripts runs the whole product as people do: the program under its three
// names, a real psql, a real server. Beside testscript's own commands there are:
//
//	postgres [LINES]     start a server of the seed guide's set-up, or with these lines in
//	                     pg_hba.conf: $SERVER is its host:port, $SOCKET_DIR and $SOCKET_PORT its socket
//	server-certificate P give it P.crt, P.key and P.cas, as `auth sign` wrote them
//	ready DIR            wait for the gateway with this data directory: $HUB, $CA_PIN
//	dba DBNAME SQL       run SQL as the superuser
//	dba-until WANT SQL   run SQL until it answers WANT
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			s := &scriptServer{t: t}
			testscript.Run(t, testscript.Params{
				Files:               []string{script},
				RequireExplicitExec: false,
				Setup: func(env *testscript.Env) error {
					home := filepath.Join(env.WorkDir, "home")
					for _, name := range []string{"HOME", "TMPDIR", "POSTERN_HOME", "XDG_STATE_HOME"} {
						env.Setenv(name, "")
					}
					env.Setenv("HOME", home)
					env.Setenv("SEED", seedDir(t))
					return os.Mkdir(home, 0o700)
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"postgres": s.start, "server-certificate": s.certificate, "ready": ready, "dba": s.dba, "dba-until": s.dbaUntil, "until": until,
				},
			})
		})
	}
}

func seedDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../testdata/seed")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// scriptServer is the server of one script.
type scriptServer struct {
	t      *testing.T
	server *pgtest.Server
}

func (s *scriptServer) start(ts *testscript.TestScript, _ bool, args []string) {
	hba := SeedHBA
	if len(args) > 0 {
		hba = strings.Join(args, "\n")
	}
	s.server = pgtest.Start(s.t, pgtest.Options{HBA: hba})
	ts.Setenv("SOCKET_DIR", s.server.SocketDir())
	ts.Setenv("SOCKET_PORT", strconv.Itoa(s.server.Port))
	ts.Setenv("SERVER", net.JoinHostPort("localhost", strconv.Itoa(s.server.Port)))
}

func (s *scriptServer) certificate(ts *testscript.TestScript, _ bool, args []string) {
	prefix := args[0]
	adopt(s.t, s.server, &pglocal.TLS{
		Certificate: []byte(ts.ReadFile(prefix + ".crt")), Key: []byte(ts.ReadFile(prefix + ".key")), ClientCAs: []byte(ts.ReadFile(prefix + ".cas")),
	})
}

// psql returns a command line of psql as superuser.
func (s *scriptServer) psql(dbname, sql string) []string {
	return []string{
		"-AtXq", "-v", "ON_ERROR_STOP=1", "-h", s.server.SocketDir(), "-p", strconv.Itoa(s.server.Port), "-U", "postgres", "-d", dbname, "-c", sql,
	}
}

func (s *scriptServer) dba(ts *testscript.TestScript, neg bool, args []string) {
	if err := ts.Exec("psql", s.psql(args[0], args[1])...); (err != nil) != neg {
		ts.Fatalf("psql: %v", err)
	}
}

func (s *scriptServer) dbaUntil(ts *testscript.TestScript, _ bool, args []string) {
	want, sql := args[0], args[1]
	var got string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := ts.Exec("psql", s.psql("postgres", sql)...); err != nil {
			ts.Fatalf("psql: %v", err)
		}
		if got = strings.TrimSpace(ts.ReadFile("stdout")); got == want {
			return
		}
	}
	ts.Fatalf("%s answers %q, not %q", sql, got, want)
}

// until runs a command until its output matches a regular expression.
func until(ts *testscript.TestScript, _ bool, args []string) {
	want, command := regexp.MustCompile(args[0]), args[1:]
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := ts.Exec(command[0], command[1:]...); err != nil {
			ts.Fatalf("%s: %v", command, err)
		}
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s prints nothing like %s", command, want)
}

// ready waits for a gateway.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	hub := client.Control(ts.MkAbs(args[0]))
	var status api.StatusResponse
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if status, err = api.Status().Call(context.Background(), hub, api.Empty{}); err == nil {
			ts.Setenv("HUB", status.Address)
			ts.Setenv("CA_PIN", status.CAPin)
			return
		}
	}
	ts.Fatalf("%v", fmt.Errorf("the gateway is not ready: %w", err))
}
