package testenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/audit"
)

// interrupted is a program that is stopped with Ctrl-C while PostgreSQL works for it.
type interrupted struct {
	name string
	// command makes what is needed and returns the program and its arguments.
	command func(t *testing.T, w way) []string
	// waits is a part of the statement that PostgreSQL runs then.
	waits string
	// says is what the program prints in the end, where that is certain.
	says string
}

// interruptions all wait for a lock on the table held, except for pgbench at work.
func interruptions() []interrupted {
	return []interrupted{
		{"pgbench", func(t *testing.T, _ way) []string {
			script := filepath.Join(t.TempDir(), "sleep.sql")
			if err := os.WriteFile(script, []byte("SELECT pg_sleep(600);\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"pgbench", "--no-vacuum", "--client=1", "--transactions=1", "--file=" + script}
		}, "pg_sleep", ""},
		{"pgbench init", func(*testing.T, way) []string {
			return []string{"pgbench", "--initialize", "--init-steps=g"}
		}, "truncate table", "canceling statement due to user request"},
		{"pg_dump", func(*testing.T, way) []string {
			return []string{"pg_dump", "--table=held"}
		}, "LOCK TABLE", "terminated by user"},
		{"pg_restore", func(t *testing.T, w way) []string {
			file := filepath.Join(t.TempDir(), "dump")
			w.run(t, "pg_dump", "--format=custom", "--data-only", "--table=held", "--no-sync", "--file="+file)
			return []string{"pg_restore", "--dbname=" + w.dbname, "--data-only", file}
		}, "COPY public.held", "terminated by user"},
	}
}

// TestInterruptedClients: whoever stops a program with Ctrl-C while its statement
// runs stops the statement too, as without the gateway. The end is on record and
// the account released.
func TestInterruptedClients(t *testing.T) {
	t.Parallel()
	env := Start(t, Options{})
	env.DBRole(t, "creator")
	for i, program := range interruptions() {
		for j, open := range []func(*Person, *testing.T) way{(*Person).directWay, (*Person).proxyWay} {
			user := fmt.Sprintf("interrupted%d%d", i, j)
			t.Run(program.name+", "+[...]string{"direct", "proxy"}[j], func(t *testing.T) {
				t.Parallel()
				env.Apply(t, Role(user, "keep", "creator"))
				env.AddUser(t, user, []string{user}, nil)
				w := open(env.As(t, user), t)
				env.interrupt(t, program, w, user)
			})
		}
	}
}

func (e *Env) interrupt(t *testing.T, program interrupted, w way, user string) {
	holder := e.Server.Superuser(t, w.dbname)
	hold := func(sql string) {
		t.Helper()
		if _, err := holder.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"held", "pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"} {
		hold("CREATE TABLE " + table + " AS SELECT 1 AS n; GRANT ALL ON " + table + " TO creator")
	}
	command := program.command(t, w)
	hold("BEGIN; LOCK TABLE held, pgbench_accounts")

	cmd := w.command(t, command[0], command[1:]...)
	var talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &talk, &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.AwaitQuery(t, user, program.waits)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err, ok := cmd.Wait().(*exec.ExitError); !ok || !strings.Contains(talk.String(), program.says) { //nolint:errorlint // as Wait returns it
		t.Errorf("it ended with %v and said: %s", err, talk.String())
	}

	Eventually(t, "the statement is stopped", func() bool { return len(e.Queries(t, user)) == 0 })
	events := func(code string) audit.Filter { return audit.Filter{User: user, Events: []string{code}} }
	starts := e.Audit(t, events("TDB00I"))
	ends := e.AwaitAudit(t, len(starts), events("TDB01I"))
	reason := ends[len(ends)-1].Text("reason")
	if len(ends) != len(starts) || !strings.Contains(reason, "without a goodbye") {
		t.Errorf("%d sessions began, %d ended, the last for the reason %q", len(starts), len(ends), reason)
	}
	Eventually(t, "the account is released", func() bool { return !e.Account(t, user).Login })
	if diff := cmp.Diff(Account{Exists: true, Roles: []string{Group}}, e.Account(t, user)); diff != "" {
		t.Errorf("the account (-want +got):\n%s", diff)
	}
	hold("ROLLBACK")
}
