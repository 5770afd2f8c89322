package testenv_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// manual is the part of the README that a newcomer types from.
type manual struct {
	t    *testing.T
	text string
}

// says checks that the README has these lines, and returns them.
func (m manual) says(lines string) string {
	m.t.Helper()
	if !strings.Contains(m.text, lines) {
		m.t.Errorf("the README does not say:\n%s", lines)
	}
	return lines
}

// TestNewcomer goes from nothing to the first statement with what the README says, on
// a server as it comes from a distribution. Only addresses are replaced, and what is
// typed on a terminal is given by flags.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "## On your own server")
	m := manual{t, text}
	server := pgtest.Start(t, pgtest.Stock(0))
	server.Exec(t, "ALTER ROLE postgres PASSWORD 'of the superuser'", "CREATE DATABASE app", "CREATE ROLE reader", "CREATE ROLE writer")
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace := strings.NewReplacer(
		"public_addr: postern.example.com:3080", "listen_addr: 127.0.0.1:0",
		"db.example.com:5432", server.Addr(), "--superuser=postgres", "--superuser=postgres --apply",
	).Replace
	config, _, _ := strings.Cut(text[strings.Index(text, "version: v1"):], "```")
	write("postern.yaml", replace(config))
	write("password", "correct horse battery staple\n")
	start := strings.Fields(m.says("postern start -c postern.yaml"))

	gateway := exec.CommandContext(t.Context(), start[0], start[1:]...)
	gateway.Dir, gateway.Env = dir, append(os.Environ(), "HOME="+dir)
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = gateway.Process.Signal(os.Interrupt) // it may have ended by itself
		_ = gateway.Wait()
	})
	try := func(line string) (string, error) {
		shell := exec.CommandContext(t.Context(), "sh", "-ec", m.says("export POSTERN_DATA_DIR=$PWD/data")+"\n"+line)
		shell.Dir, shell.Env = dir, append(os.Environ(), "HOME="+dir, "PGPASSWORD=of the superuser")
		var errs strings.Builder
		shell.Stderr = &errs
		out, err := shell.Output()
		if err != nil {
			err = fmt.Errorf("%w\n%s%s", err, out, &errs)
		}
		return string(out), err
	}
	typed := func(line string) string {
		t.Helper()
		out, err := try(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return out
	}
	testenv.Eventually(t, "the gateway is ready", func() bool { _, err := try(m.says("postern ctl status")); return err == nil })
	typed(replace(m.says("postern ctl db add example --uri=db.example.com:5432 --superuser=postgres")))
	role := text[strings.Index(text, "postern ctl create -f - <<'EOF'"):]
	typed(role[:strings.Index(role, "\nEOF\n")+len("\nEOF\n")])
	invitation := typed(m.says("postern ctl users add alice --roles=auto-db-users --db-roles=writer"))
	if out := typed(m.says("postern access explain --user alice --database example")); !strings.HasPrefix(out, "allowed") {
		t.Errorf("access: %s", out)
	}
	typed(m.says("postern db doctor example"))

	form := regexp.QuoteMeta(m.says("postern login --proxy=postern.example.com:3080 --ca-pin=sha256:… --user=alice --invite=…"))
	form = strings.NewReplacer(`postern\.example\.com:3080`, `\S+`, "…", `\S+`).Replace(form)
	line := regexp.MustCompile(form).FindString(invitation)
	if line == "" {
		t.Fatalf("the invitation is not as the README shows it: %s", invitation)
	}
	typed(line + " --password-file=password")
	typed(m.says("postern db ls -v"))
	connect := m.says("postern db connect --db-name=app example") + ` -- -XAtc "` + m.says("SELECT current_user;") + `"`
	if out := typed(connect); out != "alice\n" {
		t.Errorf("the first statement answers %q", out)
	}
}
