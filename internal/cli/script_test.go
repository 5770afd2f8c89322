package cli_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postern-db/postern/internal/api"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(runAsCLI()) } //nolint:forbidigo // the test program stands for the product here
	if os.Getenv(asCLI) != "" {
		run()
	}
	testscript.Main(m, map[string]func(){"postern": run, "tsh": run, "tctl": run})
}

var testDatabases = []api.Database{
	{
		Name: "example", Description: "orders and customers", Protocol: "postgres", Type: "self-hosted", URI: "localhost:5432",
		Labels: map[string]string{"env": "prod", "team": "shop"}, Mode: "keep", Provisioning: true,
		Names: api.Allowance{Allowed: []string{"*"}}, Roles: []string{"reader", "writer"},
	},
	{
		Name: "legacy", Protocol: "postgres", Type: "rds", URI: "legacy.example.com:5432", Labels: map[string]string{"env": "dev"}, Mode: "off",
		Users: api.Allowance{Allowed: []string{"*"}, Denied: []string{"root"}}, Names: api.Allowance{Allowed: []string{"app"}},
	},
	{Name: "locked", Protocol: "postgres", Type: "self-hosted", URI: "locked:5432", Labels: map[string]string{"env": "dev"}, Mode: "off"},
}

const testEvents = `{"ei":0,"event":"db.session.start","code":"TDB00I","time":"2026-11-22T10:00:00Z","user":"alice","db_service":"example","db_name":"shop","db_user":"alice","success":true}
{"ei":1,"event":"db.session.query","code":"TDB02I","time":"2026-11-22T10:00:01Z","user":"alice","db_service":"example","db_query":"select 1;\n\u001b[2Jselect 2"}
`

// TestScripts runs the commands as people do, against a hub that follows a script.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			data, err := os.MkdirTemp("", "hub") //nolint:usetesting // a socket is in it, so its path must be short
			if err != nil {
				return err
			}
			env.Defer(func() { _ = os.RemoveAll(data) })
			hub := startFakeHub(env.T().(testing.TB), data, func(*tls.Conn) {})
			env.Setenv("BIN", filepath.SplitList(env.Getenv("PATH"))[0]) // where testscript puts our programs
			env.Setenv("HUB", hub.address)
			env.Setenv("PIN", hub.host.Pin())
			env.Setenv("POSTERN_DATA_DIR", data)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("TMPDIR", data)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second of sleep, a hundred times
			return nil
		},
	})
}
