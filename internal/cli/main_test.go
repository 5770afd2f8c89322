package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/cli"
)

// runIn runs a command line with nothing but the environment given.
func runIn(t *testing.T, env []string, args ...string) (code int, out, talk string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Main(t.Context(), args, cli.IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Env: env})
	return code, stdout.String(), stderr.String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	env := []string{"HOME=" + t.TempDir()}
	for line, want := range map[string]struct {
		code int
		talk string
	}{
		"postern":                                 {0, ""},
		"postern version":                         {0, ""},
		"postern db":                              {0, ""},
		"postern db connect --help":               {0, ""},
		"postern nonsense":                        {2, "unknown command \"nonsense\" for \"postern\"\npostern: hint: run 'postern --help'"},
		"postern db conect x":                     {2, "did you mean 'postern db connect'?"},
		"postern status --nonsense":               {2, "unknown flag: --nonsense\npostern: hint: run 'postern status --help'"},
		"postern version x":                       {2, "unexpected argument \"x\""},
		"postern db connect a b":                  {2, "unexpected argument \"b\""},
		"postern ctl get":                         {2, "missing KIND[/NAME]"},
		"postern ctl rm":                          {2, "missing KIND/NAME"},
		"postern ctl users add alice":             {2, "required flag(s) \"roles\""},
		"postern login --ttl=soon":                {2, "not a lifetime"},
		"postern status":                          {4, "not logged in"},
		"postern db ls":                           {4, "hint: postern login"},
		"postern status --format=xml":             {2, "unknown format"},
		"postern login --proxy=a/b":               {1, "not the address of a hub"},
		"tsh status":                              {4, "not logged in"},
		"postern db doctor":                       {2, "missing DATABASE"},
		"postern db drift":                        {2, "missing DATABASE"},
		"postern db plan":                         {2, "missing DATABASE"},
		"postern db plan x":                       {4, "not logged in"},
		"postern db plan x -r a,,b":               {1, "--db-roles has an empty name"},
		"postern db plan x --format=yaml":         {2, "unknown format \"yaml\""},
		"postern db doctor x --sql --format=json": {2, "hint: run 'postern db doctor --help'"},
		"postern ctl discovery preview x":         {2, "hint: run 'postern ctl discovery preview --help'"},
		"tsh db doctor x":                         {2, "unknown command"},
		"tsh db drift x":                          {2, "unknown command"},
		"tsh db plan x":                           {2, "unknown command"},
		"tsh ctl status":                          {2, "unknown command \"ctl\" for \"tsh\""},
		"/usr/bin/tctl login":                     {2, "unknown command \"login\" for \"tctl\""},
		"tctl db ls":                              {2, "unknown command \"ls\" for \"tctl db\""},
		"tctl status --data-dir=/nowhere":         {1, "no hub runs in /nowhere"},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			code, _, talk := runIn(t, env, strings.Fields(line)...)
			if code != want.code || !strings.Contains(talk, want.talk) {
				t.Errorf("exit code %d and %q, want %d and %q", code, talk, want.code, want.talk)
			}
		})
	}
}

// TestExamplePolicies hold as they lie there, without a hub and without --from.
func TestExamplePolicies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../examples/*/*_test.yaml")
	if err != nil || len(files) < 11 {
		t.Fatalf("found %v, %v", files, err)
	}
	env := []string{"HOME=" + t.TempDir()}
	code, out, talk := runIn(t, env, append([]string{"postern", "access", "test"}, files...)...)
	if code != 0 || talk != "" || !strings.Contains(out, " 0 failed\n") ||
		!strings.Contains(out, "02-own-team_test.yaml: paula can connect to pay-dev\n") {
		t.Errorf("exit code %d\n%s%s", code, out, talk)
	}
	// Of several tests, one that names no policy needs --from or a hub.
	alone := filepath.Join(t.TempDir(), "alone_test.yaml")
	if err := os.WriteFile(alone, []byte("users: [{name: al, roles: [own-team], traits: {teams: [a]}}]\ndatabases: [{name: d, labels: {team: a, env: dev}, admin_user: x}]\ntests: [{can: {user: al, database: d}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := runIn(t, env, "postern", "access", "test", alone); code != 1 || !strings.Contains(talk, "hint: ask about files with --from") {
		t.Errorf("without a policy: exit code %d, %s", code, talk)
	}
	if code, out, talk := runIn(t, env, "postern", "access", "test", "--from", "../../examples/policies/02-own-team.yaml", alone); code != 0 {
		t.Errorf("with --from: exit code %d\n%s%s", code, out, talk)
	}
}

func TestConfigCheckWarns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "postern.yaml")
	if err := os.WriteFile(file, []byte("data_dir: /d\ndb_service: {resources: [{}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, talk := runIn(t, nil, "postern", "config", "check", file)
	if code != 0 || !strings.HasPrefix(out, "data_dir: /d\n") || !strings.Contains(talk, "postern: warning: db_service.resources #1 has no labels") {
		t.Errorf("exit code %d\n%s%s", code, out, talk)
	}
}

func TestHelpIsData(t *testing.T) {
	t.Parallel()
	code, out, talk := runIn(t, nil, "postern", "db", "connect", "--help")
	if code != 0 || talk != "" || !strings.Contains(out, "Examples:\n  postern db connect --db-name=shop example") {
		t.Errorf("exit code %d, out %q, talk %q", code, out, talk)
	}
	_, out, _ = runIn(t, nil, "tctl", "auth", "sign", "--help")
	if !strings.Contains(out, "Examples:\n  tctl auth sign --format=db") {
		t.Errorf("the help of tctl speaks of something else: %q", out)
	}
}

func TestDebugShowsTheChain(t *testing.T) {
	t.Parallel()
	_, _, talk := runIn(t, nil, "postern", "--debug", "ctl", "status", "--data-dir=/nowhere")
	if !strings.Contains(talk, "postern: debug: no hub runs in /nowhere: dial unix /nowhere/ctl.sock") {
		t.Errorf("got %q", talk)
	}
}
