package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(runAsCLI()) } //nolint:forbidigo // the test program stands for the product here
	if os.Getenv(asCLI) != "" {
		run()
	}
	testscript.Main(tests{m}, map[string]func(){"postern": run, "tsh": run, "tctl": run})
}

// tests are those of the package, with what they share.
type tests struct{ *testing.M }

func (t tests) Run() int { return testenv.Run(t.M) }

// scriptService serves databases whose servers nobody can reach.
const scriptService = `db_service:
  enabled: "yes"
  databases:
  - name: example
    description: orders and customers
    protocol: postgres
    uri: 127.0.0.1:1
    static_labels: {env: prod, team: shop}
    admin_user: {name: teleport-admin}
  - name: legacy
    protocol: postgres
    uri: 127.0.0.1:2
    aws: {region: eu-west-1}
    static_labels: {env: dev, kind: old}
  - name: locked
    protocol: postgres
    uri: 127.0.0.1:3
    static_labels: {env: dev, kind: secret}
  resources:
  - labels: {"*": "*"}
`

// scriptPolicy lets alice and bob have accounts on example; alice may be anybody
// but root on legacy, and nobody on locked.
var scriptPolicy = []string{`kind: role
version: v7
metadata: {name: auto-db-users}
spec:
  options: {create_db_user_mode: keep}
  allow: {db_labels: {env: prod}, db_names: ["*"], db_roles: [reader, writer]}
`, `kind: role
version: v7
metadata: {name: old-users}
spec:
  allow: {db_labels: {kind: old}, db_names: [app], db_users: ["*"]}
  deny: {db_users: [root]}
`, `kind: role
version: v7
metadata: {name: onlookers}
spec:
  allow: {db_labels: {kind: secret}}
`}

// TestScripts runs the commands as people do, against a hub of their own, whose
// users have the password in $PASSWORD.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(s *testscript.Env) error {
			t := s.T().(testing.TB)
			env := testenv.Start(t, testenv.Options{NoServer: true, Service: scriptService})
			env.Apply(t, scriptPolicy...)
			env.AddUser(t, "alice", []string{"auto-db-users", "old-users", "onlookers"}, nil)
			env.AddUser(t, "bob", []string{"auto-db-users"}, nil)
			testenv.Eventually(t, "the agent has looked at its servers", func() bool {
				status, err := api.Status().Call(t.Context(), env.Admin(), api.Empty{})
				return err == nil && !slices.ContainsFunc(status.Databases, func(d api.DatabaseHealth) bool { return d.Status != "unhealthy" })
			})
			s.Setenv("BIN", filepath.SplitList(s.Getenv("PATH"))[0]) // where testscript puts our programs
			s.Setenv("HUB", env.Address)
			s.Setenv("PIN", env.Pin)
			s.Setenv("PASSWORD", testenv.Password)
			s.Setenv("POSTERN_DATA_DIR", env.DataDir)
			s.Setenv("HOME", filepath.Join(s.WorkDir, "home"))
			s.Setenv("TMPDIR", env.DataDir)
			s.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second of sleep, a hundred times
			return nil
		},
	})
}
