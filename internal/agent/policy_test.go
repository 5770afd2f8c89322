package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestPolicyCountsAtTheNextConnection, whatever the certificate says.
func TestPolicyCountsAtTheNextConnection(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	fickle := env.Hire(t, "fickle", "keep", "fickle_one", "fickle_two")
	cfg := fickle.Direct(t, identity.Route{Database: "example", DatabaseName: "postgres"})
	connect := func(want ...string) {
		t.Helper()
		conn := testenv.Connect(t, cfg)
		if diff := cmp.Diff(want, env.Account(t, "fickle").Roles); diff != "" {
			t.Errorf("roles (-want +got):\n%s", diff)
		}
		testenv.Close(t, conn)
		awaitAccount(t, env, "fickle", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	}
	connect("fickle_one", "fickle_two", testenv.Group)
	env.Apply(t, testenv.Role("fickle", "keep", "fickle_two"))
	connect("fickle_two", testenv.Group)

	denied := refusal{"28000", "access to db denied", ""}
	env.Apply(t, `kind: role
version: v7
metadata: {name: fickle}
spec:
  options: {create_db_user_mode: keep}
  allow: {db_labels: {"*": "*"}, db_names: [elsewhere]}
`)
	denied.check(t, testenv.Refused(t, cfg))
	env.Remove(t, "role", "fickle")
	denied.check(t, testenv.Refused(t, cfg))
	env.Apply(t, testenv.Role("fickle", "keep", "fickle_one"))
	connect("fickle_one", testenv.Group)
	env.Remove(t, "user", "fickle")
	refusal{"28000", `user "fickle" does not exist any more`, ""}.check(t, testenv.Refused(t, cfg))
}

// TestSubsetOfDatabaseRoles is what --db-roles asks for.
func TestSubsetOfDatabaseRoles(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	modest := env.Hire(t, "modest", "keep", "modest_reader", "modest_writer")
	for _, c := range []struct {
		name  string
		roles []string
		want  []string
	}{
		{"one", []string{"modest_reader"}, []string{"modest_reader", testenv.Group}},
		{"all", []string{"modest_reader", "modest_writer"}, []string{"modest_reader", "modest_writer", testenv.Group}},
		{"none", []string{}, []string{testenv.Group}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := testenv.Connect(t, modest.Proxy(t, identity.Route{Database: "example", DatabaseRole: c.roles}))
			if diff := cmp.Diff(c.want, env.Account(t, "modest").Roles); diff != "" {
				t.Errorf("roles (-want +got):\n%s", diff)
			}
			testenv.Close(t, conn)
			awaitAccount(t, env, "modest", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
		})
	}
	refusal{"28000", `access to database role "modest_owner" denied`, ""}.
		check(t, testenv.Refused(t, modest.Proxy(t, identity.Route{Database: "example", DatabaseRole: []string{"modest_reader", "modest_owner"}})))
}

// TestDriftIsCorrected: what somebody granted by hand does not survive.
func TestDriftIsCorrected(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	drifter := env.Hire(t, "drifter", "keep", "drifter_reader")
	testenv.Close(t, drifter.Connect(t, "example", "postgres"))
	awaitAccount(t, env, "drifter", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	env.Server.Exec(t, "CREATE ROLE drifter_boss", `SET ROLE "teleport-admin"`, "GRANT drifter_boss TO drifter")
	drifter.Connect(t, "example", "postgres")
	want := []string{"drifter_reader", testenv.Group}
	if diff := cmp.Diff(want, env.Account(t, "drifter").Roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}
