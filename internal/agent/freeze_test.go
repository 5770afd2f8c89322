package agent_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

func freeze(t *testing.T, env *testenv.Env, name, reason string) {
	t.Helper()
	if _, err := api.FreezeDatabase().Call(t.Context(), env.Admin(), api.FreezeDatabaseRequest{Name: name, Reason: reason}); err != nil {
		t.Fatal(err)
	}
}

// TestFreeze: from a freeze on nothing is written to the server, whatever happens:
// sessions that come and go, policy that changes, a restart. Sessions go on, and
// everything due is done after the thaw.
func TestFreeze(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Settings: map[string]string{"log_statement": "mod"}})
	alice := env.Hire(t, "alice", "keep", "reader")
	bob := env.Hire(t, "bob", "best_effort_drop", "bobs")
	env.DBRole(t, "writer", "own")
	env.Server.Exec(t, "CREATE ROLE shared LOGIN")
	env.Apply(t, strings.ReplaceAll(testenv.Role("plain", "off"), "db_names", `db_users: [shared]`+"\n    db_names"))
	env.AddUser(t, "carol", []string{"plain"}, nil)
	leaving, staying := alice.Connect(t, "example", "postgres"), bob.Connect(t, "example", "postgres")

	freeze(t, env, "example", "upgrade until noon")
	logged := len(env.Server.Log())
	if !strings.Contains(env.Server.Log(), `LOG:  execute <unnamed>: CREATE ROLE "alice"`) {
		t.Fatal("the server's log does not show what is written")
	}
	refused := refusal{"57P03", "upgrade until noon", "postern db unfreeze example"}
	refused.check(t, alice.Refused(t, "example", "postgres"))
	if got := alice.Refused(t, "example", "postgres"); !contains(got.Message, `automatic users of database "example" are switched off`) {
		t.Errorf("got %s", got.Message)
	}
	testenv.Close(t, leaving)
	testenv.Eventually(t, "the session has ended", func() bool { return len(env.Audit(t, of("alice", "db.session.end"))) > 0 })
	env.Apply(t, testenv.Role("bob", "best_effort_drop", "bobs", "writer")) // more for a session that runs
	if _, err := staying.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("a session that was there: %v", err)
	}
	cfg := env.As(t, "carol").Proxy(t, identity.Route{Database: "example", DatabaseUser: "shared", DatabaseName: "postgres"})
	testenv.Close(t, testenv.Connect(t, cfg)) // needs no automatic user

	found := doctor(t, env, "example")
	if len(found) == 0 || found[0].Severity+" "+found[0].Check != "error frozen" {
		t.Errorf("doctor: %+v", found)
	}
	status, err := api.Status().Call(t.Context(), env.Admin(), api.Empty{})
	if err != nil || len(status.Databases) != 1 || status.Databases[0].Frozen == nil || status.Databases[0].Frozen.Reason != "upgrade until noon" {
		t.Errorf("status: %+v, %v", status.Databases, err)
	}

	testenv.Close(t, staying)
	testenv.Eventually(t, "the other session has ended", func() bool { return len(env.Audit(t, of("bob", "db.session.end"))) > 0 })
	env.Restart(t)
	refused.check(t, alice.Refused(t, "example", "postgres"))
	for _, line := range strings.Split(env.Server.Log()[logged:], "\n") {
		if strings.Contains(line, "LOG:  statement: ") || strings.Contains(line, "LOG:  execute ") {
			t.Errorf("written while frozen: %s", line)
		}
	}
	if a := env.Account(t, "alice"); !a.Login || len(a.Roles) != 2 {
		t.Errorf("alice's account has been changed: %+v", a)
	}

	if _, err := api.UnfreezeDatabase().Call(t.Context(), env.Admin(), api.UnfreezeDatabaseRequest{Name: "example"}); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "alice is released", func() bool { return !env.Account(t, "alice").Login })
	testenv.Eventually(t, "bob is dropped", func() bool { return !env.Account(t, "bob").Exists })
	testenv.Close(t, alice.Connect(t, "example", "postgres"))

	var recorded []string
	for _, e := range env.Audit(t, audit.Filter{Events: []string{"db.freeze", "db.unfreeze"}}) {
		recorded = append(recorded, e.Text("code")+" "+e.Text("name")+" "+e.Text("reason"))
	}
	if diff := cmp.Diff([]string{"TDB20I example upgrade until noon", "TDB21I example "}, recorded); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	for _, name := range []string{"example", "nothing"} {
		if _, err := api.UnfreezeDatabase().Call(t.Context(), env.Admin(), api.UnfreezeDatabaseRequest{Name: name}); fault.KindOf(err) != fault.NotFound {
			t.Errorf("unfreeze %s: %v", name, err)
		}
	}
	if _, err := api.FreezeDatabase().Call(t.Context(), env.Admin(), api.FreezeDatabaseRequest{Name: "nothing"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("freeze what is not registered: %v", err)
	}
}
