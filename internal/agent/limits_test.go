package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// limitedRole is a role with one more option.
func limitedRole(name, option string) string {
	return "{kind: role, version: v7, metadata: {name: " + name + "}, spec: {options: {create_db_user_mode: keep, " + option + "}, " +
		`allow: {db_labels: {"*": "*"}, db_names: ["*"]}}}`
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, limitedRole("two_at_once", "max_connections: 2"))
	env.AddUser(t, "two_at_once", []string{"two_at_once"}, nil)
	p := env.As(t, "two_at_once")
	first := p.Connect(t, testenv.Database, "postgres")
	p.Connect(t, testenv.Database, "postgres")
	if refused := p.Refused(t, testenv.Database, "postgres"); refused.Code != "53300" || refused.Hint == "" {
		t.Errorf("the third connection got %+v, want 53300 and a hint", refused)
	}
	testenv.Close(t, first)
	testenv.Eventually(t, "there is room again", func() bool {
		conn, err := testenv.TryConnect(t, p.Proxy(t, identity.Route{Database: testenv.Database}))
		if err == nil {
			testenv.Close(t, conn)
		}
		return err == nil
	})
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, limitedRole("sleepy", "client_idle_timeout: 300ms"))
	env.AddUser(t, "sleepy", []string{"sleepy"}, nil)
	env.As(t, "sleepy").Connect(t, testenv.Database, "postgres")
	events := env.AwaitAudit(t, 1, of("sleepy", "T3006I"))
	if got, want := events[0].Text("reason"), "Client exceeded idle timeout of 300ms"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	testenv.Within(t, 5*time.Second, "the account is released", func() bool { return !env.Account(t, "sleepy").Login })
}

func TestRecordLevels(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	for _, test := range []struct {
		level string
		want  []string // texts of statements
	}{
		{"full", []string{"SELECT 'x', $1::int", "ALTER ROLE nobody_at_all PASSWORD '[redacted]'"}},
		{"tag", []string{"SELECT", "ALTER"}},
		{"none", nil},
	} {
		t.Run(test.level, func(t *testing.T) {
			t.Parallel()
			name := "recorded_" + test.level
			env.Apply(t, limitedRole(name, "record_session: {db: "+test.level+"}"))
			env.AddUser(t, name, []string{name}, nil)
			conn := env.As(t, name).Connect(t, testenv.Database, "postgres")
			if _, err := conn.Exec(t.Context(), "SELECT 'x', $1::int", pgx.QueryExecModeExec, 4711); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "ALTER ROLE nobody_at_all PASSWORD 's3cret'", pgx.QueryExecModeSimpleProtocol); err == nil {
				t.Fatal("a role that does not exist was altered")
			}
			testenv.Close(t, conn)
			env.AwaitAudit(t, 1, of(name, "TDB01I"))
			var got []string
			for _, e := range env.Audit(t, audit.Filter{User: name, Events: []string{"TDB02I", "TPG00I"}}) {
				got = append(got, e.Text("db_query")+e.Text("query"))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("recorded %q, want %q", got, test.want)
			}
			if test.level != "full" {
				return
			}
			binds := env.Audit(t, of(name, "TPG01I"))
			if len(binds) != 1 || !slices.Equal(binds[0]["parameters"].([]any), []any{"4711"}) {
				t.Errorf("bind events %v, want one with 4711", binds)
			}
		})
	}
}
