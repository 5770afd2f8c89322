package access_test

import (
	"fmt"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// benchRoles returns n roles of a realistic mix: selectors with one to three
// keys, some globs and templates, some that provision, some that deny.
func benchRoles(t testing.TB, n int) (roles []*resource.Role, names []string) {
	t.Helper()
	for i := range n {
		spec := fmt.Sprintf(`allow: {db_labels: {env: [dev, "stage-*"], team: team-%d}, db_names: [app, "db%d"], db_users: [reader]}`, i, i)
		switch i % 5 {
		case 1:
			spec = fmt.Sprintf(`options: {create_db_user_mode: keep, max_connections: %d}, allow: {db_labels: {env: dev}, db_names: ["*"], db_roles: [reader, "role%d", "{{internal.db_roles}}"]}`, i, i)
		case 2:
			spec = `allow: {db_labels: {team: "{{external.team}}"}, db_names: ["*"], db_users: [reader]}, deny: {db_names: [secret]}`
		case 3:
			spec = `deny: {db_labels: {env: [forbidden, "locked-*"]}, db_roles: [superuser]}`
		}
		r := parse(t, role(fmt.Sprintf("role-%d", i), spec))[0].(*resource.Role)
		roles, names = append(roles, r), append(names, r.GetName())
	}
	return roles, names
}

func benchRequest(names []string) access.Request {
	q := request(db("env=dev,team=team-0,region=eu"), "alice", "app", names...)
	q.Traits = map[string][]string{"team": {"pay", "ops"}, "db_roles": {"auditor"}}
	return q
}

// BenchmarkDecide: the aim is 20 µs for a user with 50 roles, and at most 5 µs more
// for every further 1,000 roles in the cluster.
func BenchmarkDecide(b *testing.B) {
	for _, more := range []int{0, 1000, 5000} {
		b.Run(fmt.Sprintf("50-of-%d", 50+more), func(b *testing.B) {
			roles, names := benchRoles(b, 50+more)
			p := access.NewPolicy(access.Input{Roles: roles})
			q := benchRequest(names[:50])
			if err := p.Decide(q).Err(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(q)
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		roles, names := benchRoles(b, 50)
		p := access.NewPolicy(access.Input{Roles: roles})
		q := benchRequest(names)
		q.Database = db("env=prod")
		if p.Decide(q).Err() == nil {
			b.Fatal("allowed")
		}
		b.ReportAllocs()
		for b.Loop() {
			p.Decide(q)
		}
	})
}

// BenchmarkList: the aim is 100 ms for 10,000 databases and a user with 50 roles.
func BenchmarkList(b *testing.B) {
	roles, names := benchRoles(b, 50)
	p := access.NewPolicy(access.Input{Roles: roles})
	q := benchRequest(names)
	databases := make([]*resource.Database, 10_000)
	for i := range databases {
		databases[i] = db(fmt.Sprintf("env=%s,team=team-%d,region=eu", []string{"dev", "prod", "stage-1"}[i%3], i%50))
	}
	b.ReportAllocs()
	for b.Loop() {
		bound := p.Bind(q)
		for _, d := range databases {
			bound.Overview(d, nil)
		}
	}
}

// BenchmarkObjectPermissions: the aim is 50 ms for 10,000 objects, 20 rules and 20
// entries.
func BenchmarkObjectPermissions(b *testing.B) {
	text := ""
	for i := range 20 {
		text += rule(fmt.Sprintf("rule-%d", i), i, fmt.Sprintf(`{scope: {schema_names: ["schema_%d*", public]}, match: {table_names: ["t*", "x_%d"], view_names: ["*"]}, add_labels: {owner-%d: "{{obj.schema}}", kind: "{{obj.object_kind}}", rule: "r%d", name: "n-{{obj.name}}"}}`, i, i, i, i))
	}
	p := policy(b, text)
	entries := make([]access.Permission, 20)
	for i := range entries {
		entries[i] = allow("SELECT,INSERT", fmt.Sprintf("owner-%d", i), fmt.Sprintf("schema_%d*", i))
		if i%4 == 3 {
			entries[i] = deny("INSERT", "name", fmt.Sprintf("n-t_%d*", i))
		}
	}
	objects := make([]access.Object, 10_000)
	for i := range objects {
		objects[i] = object("table", "app", fmt.Sprintf("schema_%d", i%20), fmt.Sprintf("t_%d", i))
	}
	d := db("")
	if n := len(p.ObjectPermissions(d, nil, entries, objects).Objects); n < 1000 {
		b.Fatalf("only %d objects have permissions", n)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.ObjectPermissions(d, nil, entries, objects)
	}
}
