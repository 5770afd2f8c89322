package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/testenv"
)

// TestPolicyReachesRunningSessions takes access away in every way there is while
// a session runs that holds on to its rights with SET ROLE.
func TestPolicyReachesRunningSessions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(t *testing.T, env *testenv.Env, person string)
	}{
		{"role deleted", func(t *testing.T, env *testenv.Env, person string) { env.Remove(t, "role", person) }},
		{"user deleted", func(t *testing.T, env *testenv.Env, person string) { env.Remove(t, "user", person) }},
		{"db role taken away", func(t *testing.T, env *testenv.Env, person string) {
			env.Apply(t, testenv.Role(person, "keep"))
		}},
		{"locked", func(t *testing.T, env *testenv.Env, person string) {
			env.Apply(t, "{kind: lock, version: v2, metadata: {name: "+person+"}, spec: {target: {user: "+person+"}, message: stop}}")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env := testenv.Shared(t)
			person := "follow_" + strings.ReplaceAll(test.name, " ", "_")
			dbRole := person + "_writer"
			p := env.Hire(t, person, "keep", dbRole)
			conn := p.Connect(t, testenv.Database, "postgres")
			if _, err := conn.Exec(t.Context(), "SET ROLE "+dbRole); err != nil {
				t.Fatal(err)
			}
			running := make(chan error, 1)
			go func() {
				_, err := conn.Exec(t.Context(), "SELECT pg_sleep(60)")
				running <- err
			}()
			env.AwaitQuery(t, person, "pg_sleep")
			test.change(t, env, person)
			testenv.Within(t, time.Second, "the session ends", func() bool { return len(running) == 1 })
			if refused, ok := errors.AsType[*pgconn.PgError](<-running); !ok || refused.Code != "57P01" {
				t.Errorf("the session ended with %v, want 57P01 and a reason", refused)
			}
			testenv.Eventually(t, "the statement is cancelled", func() bool { return len(env.Queries(t, person)) == 0 })
			testenv.Eventually(t, "the account is released", func() bool {
				a := env.Account(t, person)
				return !a.Login && len(a.Roles) == 1
			})
		})
	}
}

// TestOtherSessionsDoNotNotice changes resources that are not about a session.
func TestOtherSessionsDoNotNotice(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := env.Hire(t, "bystander", "keep", "bystander_reader").Connect(t, testenv.Database, "postgres")
	env.Apply(t, testenv.Role("bystander_other", "keep"))
	env.AddUser(t, "bystander_colleague", []string{"bystander_other"}, nil)
	env.Remove(t, "user", "bystander_colleague")
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("a session was disturbed: %v", err)
	}
}

// TestRolesReachRunningSessions adds a db role while a session runs.
func TestRolesReachRunningSessions(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := env.Hire(t, "widened", "keep", "widened_reader").Connect(t, testenv.Database, "postgres")
	env.DBRole(t, "widened_writer")
	env.Apply(t, testenv.Role("widened", "keep", "widened_reader", "widened_writer"))
	testenv.Within(t, time.Second, "the session has the new db role", func() bool {
		return text(t, conn, "SELECT pg_has_role('widened_writer', 'USAGE')::text") == "true"
	})
	second := env.As(t, "widened").Connect(t, testenv.Database, "postgres")
	if got := text(t, second, "SELECT current_user::text"); got != "widened" {
		t.Errorf("the next session runs as %s, want the same account", got)
	}
}

// A change of policy that comes while a refused session is being set up changes
// nothing about how it is refused.
func TestRefusalWhileResourcesChange(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, database(env, "changeable", ""))
	awaitServed(t, env, "changeable")
	unsteady := env.Hire(t, "unsteady", "keep", "unsteady_reader")
	var changing sync.WaitGroup
	stop := make(chan struct{})
	changing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := env.TryApply(t, fmt.Sprintf("kind: role\nversion: v7\nmetadata: {name: unsteady_other, description: change %d}\n", i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 30 {
		refusal{"28000", "this database doesn't have admin user configured", `CREATE USER "teleport-admin"`}.
			check(t, unsteady.Refused(t, "changeable", "postgres"))
	}
	close(stop)
	changing.Wait()
}
