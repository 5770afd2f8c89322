package access_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// parse returns the resources of a YAML text.
func parse(t testing.TB, text string) []resource.Resource {
	t.Helper()
	rs, err := resource.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// input sorts resources into a policy input.
func input(rs []resource.Resource) access.Input {
	var in access.Input
	for _, r := range rs {
		in.Add(r)
	}
	return in
}

// policy compiles a YAML text.
func policy(t testing.TB, text string) *access.Policy {
	t.Helper()
	return access.NewPolicy(input(parse(t, text)))
}

// role returns the YAML of a role with a spec in flow style.
func role(name, spec string) string {
	return "kind: role\nversion: v7\nmetadata: {name: " + name + "}\nspec: {" + spec + "}\n---\n"
}

// db returns a database that can provision, with labels such as "env=prod,team=a".
func db(labels string) *resource.Database {
	d := &resource.Database{Kind: "db", Version: "v3", Metadata: resource.Metadata{Name: "example"}}
	d.Metadata.Labels = map[string]string{}
	for _, pair := range strings.Split(labels, ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			d.Metadata.Labels[key] = value
		}
	}
	d.Spec.Protocol, d.Spec.URI, d.Spec.AdminUser.Name = "postgres", "localhost:5432", "admin"
	return d
}

// request asks for user@name on a database, for alice with roles.
func request(d *resource.Database, user, name string, roles ...string) access.Request {
	return access.Request{User: "alice", Roles: roles, Database: d, DatabaseUser: user, DatabaseName: name}
}

// words splits a list written with blanks; no words are an empty list, not nil.
func words(s string) []string { return strings.Fields(s) }
