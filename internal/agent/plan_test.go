package agent_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/testenv"
)

// TestPlanOfASession asks for oneself and, as the hub's owner, for others.
func TestPlanOfASession(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, "CREATE DATABASE planned")
	exec(t, env.Server.Superuser(t, "planned"), "CREATE TABLE t1 (n int)", `GRANT SELECT ON t1 TO "teleport-admin" WITH GRANT OPTION`)
	env.Apply(t, testenv.Role("planned_more", "keep")+"    db_permissions:\n    - {match: {name: t1}, permissions: [select]}\n")
	env.DBRole(t, "planned_reader")
	env.Apply(t, strings.Replace(testenv.Role("planned", "keep", "planned_reader"), `["*"]`, `[planned]`, 1))
	env.AddUser(t, "planned", []string{"planned", "planned_more"}, nil)
	env.AddUser(t, "planned_stranger", nil, nil)
	self := env.As(t, "planned").Hub(t)

	plan, err := self.PlanDatabase(t.Context(), api.PlanDatabaseRequest{Name: testenv.Database, DatabaseName: "planned"})
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, s := range plan.Steps {
		all.WriteString(s.SQL + " -- " + s.Why + "\n")
	}
	for _, part := range []string{
		`GRANT "planned_reader" TO "planned"`, "db_roles: role planned\n", `GRANT SELECT ON TABLE "public"."t1"`, "db_permissions: role planned_more\n",
	} {
		if !strings.Contains(all.String(), part) {
			t.Errorf("the plan does not say %q:\n%s", part, all.String())
		}
	}
	if plan.Exists || env.Account(t, "planned").Exists {
		t.Error("the account exists")
	}
	conn := env.As(t, "planned").Connect(t, testenv.Database, "planned")
	exec(t, conn, "SELECT * FROM t1")
	plan, err = api.PlanDatabase().Call(t.Context(), env.Admin(), api.PlanDatabaseRequest{Name: testenv.Database, DatabaseName: "planned", User: "planned"})
	if err != nil || len(plan.Steps) != 0 || plan.Sessions != 1 {
		t.Errorf("with a session: %+v, %v; want nothing to do", plan, err)
	}

	for _, c := range []struct {
		name string
		as   *api.Client
		q    api.PlanDatabaseRequest
		kind fault.Kind
	}{
		{"about somebody else", callAs(t, env, "planned"), api.PlanDatabaseRequest{Name: testenv.Database, User: "planned_stranger"}, fault.Denied},
		{"what is not visible", callAs(t, env, "planned_stranger"), api.PlanDatabaseRequest{Name: testenv.Database}, fault.NotFound},
		{"not logged in", env.API(t), api.PlanDatabaseRequest{Name: testenv.Database}, fault.Unauthenticated},
		{"nobody", env.Admin(), api.PlanDatabaseRequest{Name: testenv.Database}, fault.Invalid},
		{"somebody who may not", env.Admin(), api.PlanDatabaseRequest{Name: testenv.Database, User: "planned_stranger", DatabaseName: "planned"}, fault.Denied},
		{"somebody who does not exist", env.Admin(), api.PlanDatabaseRequest{Name: testenv.Database, User: "nobody"}, fault.NotFound},
		{"which database name", env.Admin(), api.PlanDatabaseRequest{Name: testenv.Database, User: "planned"}, fault.Invalid},
		{"a db role that policy does not give", env.Admin(), api.PlanDatabaseRequest{
			Name: testenv.Database, User: "planned", DatabaseName: "planned", DatabaseRoles: []string{"postgres"},
		}, fault.Denied},
	} {
		if _, err := api.PlanDatabase().Call(t.Context(), c.as, c.q); fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %v", c.name, err, c.kind)
		}
	}
}

// callAs calls the API with somebody's login.
func callAs(t *testing.T, env *testenv.Env, name string) *api.Client {
	t.Helper()
	p := env.As(t, name)
	return env.API(t, p.Certificate(t))
}
