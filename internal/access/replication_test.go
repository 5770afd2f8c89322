package access_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
)

// TestReplication: a role has to allow it, and physical replication, which reads
// every logical database, needs more than the name that it comes with.
func TestReplication(t *testing.T) {
	t.Parallel()
	const (
		one = `options: {allow_replication: true}, allow: {db_labels: {"*": "*"}, db_users: [u], db_names: [app]}`
		all = `options: {allow_replication: true}, allow: {db_labels: {"*": "*"}, db_users: [u], db_names: ["*"]}`
	)
	plain := strings.ReplaceAll(all, "true", "false")
	for _, c := range []struct {
		name              string
		roles             string
		logical, physical access.Outcome
	}{
		{"not allowed", role("a", plain), access.Denied, access.Denied},
		{"allowed where the role grants nothing", role("a", plain) + role("b", `options: {allow_replication: true}`), access.Denied, access.Denied},
		{"allowed by one of two", role("a", plain) + role("b", all), access.Allowed, access.Allowed},
		{"one logical database", role("a", one), access.Allowed, access.Denied},
		{"all by name", role("a", strings.Replace(all, `"*"]`, "replication, app]", 1)), access.Allowed, access.Allowed},
		{"all but one", role("a", all) + role("b", `deny: {db_names: [secret]}`), access.Allowed, access.Denied},
		{"all but one, elsewhere", role("a", all) + role("b", `deny: {db_labels: {env: other}, db_names: [secret]}`), access.Allowed, access.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := input(parse(t, c.roles))
			var roles []string
			for _, r := range in.Roles {
				roles = append(roles, r.GetName())
			}
			q := request(db(""), "u", "app", roles...)
			for kind, want := range map[access.Replication]access.Outcome{
				access.NoReplication: access.Allowed, access.LogicalReplication: c.logical, access.PhysicalReplication: c.physical,
			} {
				q.Replication = kind
				if got := access.NewPolicy(in).Decide(q); got.Outcome != want {
					t.Errorf("kind %d: %v (%v), want %v", kind, got.Outcome, got.Err(), want)
				}
			}
		})
	}
}
