package hub_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestAdministrationOnRecord: every change and every certificate, before it has
// an effect, with who did it from where.
func TestAdministrationOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	env.Apply(t, testenv.Role("readers", "keep", "reader"))
	env.Apply(t, testenv.Role("readers", "keep", "reader", "writer"))
	env.AddUser(t, "alice", []string{"readers"}, nil)
	if _, err := api.AddUser().Call(t.Context(), env.Admin(), api.AddUserRequest{Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	alice := env.As(t, "alice")
	if err := alice.TryLogin(t, "wrong"); err == nil {
		t.Fatal("a wrong password got in")
	}
	alice.DatabaseCertificate(t, identity.Route{Database: "example"})
	env.Remove(t, "user", "alice")
	env.Apply(t, "kind: db\nversion: v3\nmetadata: {name: shop}\nspec: {protocol: postgres, uri: 'localhost:1'}\n")

	type line struct{ Event, Code, User, About string }
	var got []line
	for _, e := range env.Audit(t, audit.Filter{}) {
		about := e.Text("name")
		if e.Text("event") == "cert.create" {
			about = e.Text("subject") + "@" + e.Text("db_service")
		}
		got = append(got, line{e.Text("event"), e.Text("code"), e.Text("user"), about})
		if e.Text("addr.remote") == "" && e.Text("user") != "" {
			t.Errorf("%s does not say from where", e["event"])
		}
	}
	want := []line{
		{"role.created", "T9000I", "hub-owner", "readers"},
		{"role.updated", "T9002I", "hub-owner", "readers"},
		{"user.password_change", "T1005I", "hub-owner", "alice"},
		{"user.create", "T1002I", "hub-owner", "alice"},
		{"reset_password_token.create", "T6000I", "hub-owner", "bob"},
		{"user.create", "T1002I", "hub-owner", "bob"},
		{"user.login", "T1000W", "alice", ""},
		{"user.login", "T1000I", "alice", ""},
		{"cert.create", "TC000I", "alice", "alice@"},
		{"cert.create", "TC000I", "alice", "alice@example"},
		{"user.delete", "T1004I", "hub-owner", "alice"},
		{"db.create", "TDB03I", "hub-owner", "shop"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if _, err := audit.Verify(t.Context(), env.AuditDir()); err != nil {
		t.Error(err)
	}
}
