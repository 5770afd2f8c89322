package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// rule returns the YAML of an import rule for every database.
func rule(name string, priority int, mappings string) string {
	return fmt.Sprintf("kind: db_object_import_rule\nmetadata: {name: %s}\nspec: {priority: %d, database_labels: [{name: '*', values: ['*']}], mappings: [%s]}\n---\n", name, priority, mappings)
}

func object(kind, database, schema, name string) access.Object {
	return access.Object{Kind: kind, Database: database, Schema: schema, Name: name}
}

func TestSection5_3ImportRules(t *testing.T) {
	t.Parallel()
	table := object("table", "app", "public", "t1")
	for _, tt := range []struct {
		name, rules string
		object      access.Object
		want        map[string]string // nil: not imported
	}{
		{"default rule", "", table, map[string]string{"protocol": "postgres", "database_service_name": "example", "object_kind": "table", "database": "app", "schema": "public", "name": "t1"}},
		{"default rule, function", "", object("function", "app", "public", "f"), map[string]string{"protocol": "postgres", "database_service_name": "example", "object_kind": "function", "database": "app", "schema": "public", "name": "f"}},
		{"no default rule beside another", rule("r", 0, `{match: {view_names: ["*"]}, add_labels: {a: b}}`), table, nil},
		{"match", rule("r", 0, `{match: {table_names: [x, "t*"]}, add_labels: {a: b}}`), table, map[string]string{"a": "b"}},
		{"match by regexp", rule("r", 0, `{match: {table_names: ["^t[0-9]$"]}, add_labels: {a: b}}`), table, map[string]string{"a": "b"}},
		{"empty pattern matches nothing", rule("r", 0, `{match: {table_names: [""]}, add_labels: {a: b}}`), object("table", "app", "public", ""), nil},
		{"unknown kind", rule("r", 0, `{match: {table_names: ["*"]}, add_labels: {a: b}}`), object("index", "app", "public", "i"), nil},
		{"scope database", rule("r", 0, `{scope: {database_names: ["app*"]}, match: {table_names: ["*"]}, add_labels: {a: b}}`), table, map[string]string{"a": "b"}},
		{"scope other database", rule("r", 0, `{scope: {database_names: [x]}, match: {table_names: ["*"]}, add_labels: {a: b}}`), table, nil},
		{"scope schema", rule("r", 0, `{scope: {schema_names: ["^pub"]}, match: {table_names: ["*"]}, add_labels: {a: b}}`), table, nil},
		{"priorities: later overwrites, labels accumulate", rule("a", 20, `{match: {table_names: ["*"]}, add_labels: {x: late}}`) + rule("z", 10, `{match: {table_names: ["*"]}, add_labels: {x: early, y: kept}}`), table, map[string]string{"x": "late", "y": "kept"}},
		{"equal priorities go by name", rule("b", 0, `{match: {table_names: ["*"]}, add_labels: {x: b}}`) + rule("a", 0, `{match: {table_names: ["*"]}, add_labels: {x: a}}`), table, map[string]string{"x": "b"}},
		{"mappings in order", rule("r", 0, `{match: {table_names: ["*"]}, add_labels: {x: one}}, {match: {table_names: ["t*"]}, add_labels: {x: two}}`), table, map[string]string{"x": "two"}},
		{"templates are trimmed", rule("r", 0, `{match: {table_names: ["*"]}, add_labels: {a: " {{obj.schema}}-x ", b: '{{obj["name"]}}', c: " lit ", d: "{{obj.database}}", e: "{{obj.object_kind}}", f: "{{obj.protocol}}", g: "{{obj.database_service_name}}"}}`), table, map[string]string{"a": "public-x", "b": "t1", "c": "lit", "d": "app", "e": "table", "f": "postgres", "g": "example"}},
		{"no labels added", rule("r", 0, `{match: {table_names: ["*"]}}`), table, map[string]string{}},
		{"broken pattern", rule("r", 0, `{match: {table_names: ["^($"]}, add_labels: {a: b}}`), table, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := access.NewPolicy(access.Input{})
			if tt.rules != "" {
				p = policy(t, tt.rules)
			}
			got, ok := p.ObjectLabels(db(""), nil, tt.object)
			if ok != (tt.want != nil) {
				t.Fatalf("imported: %t", ok)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("database labels", func(t *testing.T) {
		t.Parallel()
		p := policy(t, `kind: db_object_import_rule
metadata: {name: r}
spec: {database_labels: [{name: env, values: [dev, "st*"]}], mappings: [{match: {table_names: ["*"]}, add_labels: {a: b}}]}`)
		for labels, want := range map[string]bool{"env=dev": true, "env=stage": true, "env=prod": false, "": false} {
			if _, got := p.ObjectLabels(db(labels), nil, table); got != want {
				t.Errorf("%s: imported %t", labels, got)
			}
			if _, got := p.ObjectLabels(db(""), db(labels).Metadata.Labels, table); got != want {
				t.Errorf("dynamic %s: imported %t", labels, got)
			}
		}
	})
	t.Run("broken database labels drop everything", func(t *testing.T) {
		t.Parallel()
		p := policy(t, `kind: db_object_import_rule
metadata: {name: r}
spec: {database_labels: [{name: env, values: ["^($"]}], mappings: [{match: {table_names: ["*"]}, add_labels: {a: b}}]}
---
`+rule("b", 0, `{match: {table_names: ["*"]}, add_labels: {a: b}}`))
		if _, got := p.ObjectLabels(db("env=dev"), nil, table); got {
			t.Error("imported")
		}
		got := p.ObjectPermissions(db(""), nil, []access.Permission{allow("SELECT", "*", "*")}, []access.Object{table})
		if len(got.Objects) != 0 || got.Dropped != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func allow(permissions, key, value string) access.Permission {
	return access.Permission{Effect: access.EffectAllow, Match: resource.LabelSelector{key: {value}}, Permissions: strings.Split(permissions, ",")}
}

func deny(permissions, key, value string) access.Permission {
	p := allow(permissions, key, value)
	p.Effect = access.EffectDeny
	return p
}

func TestSection5_5Calculation(t *testing.T) {
	t.Parallel()
	objects := []access.Object{
		object("table", "app", "public", "t1"), object("table", "app", "private", "t2"), object("view", "app", "public", "v1"), object("sequence", "app", "public", "s1"),
	}
	for _, tt := range []struct {
		name    string
		entries []access.Permission
		want    string // object=PERMISSIONS, and so on
		summary string
	}{
		{"nothing", nil, "", "(none)"},
		{"B.7", []access.Permission{{Effect: access.EffectAllow, Match: resource.LabelSelector{"object_kind": {"table"}, "schema": {"public"}}, Permissions: []string{"SELECT"}}}, "t1=SELECT", "SELECT: 1 objects (table:1)"},
		{"everything", []access.Permission{allow("SELECT", "*", "*")}, "t1=SELECT t2=SELECT v1=SELECT s1=SELECT", "SELECT: 4 objects (sequence:1, table:2, view:1)"},
		{"empty match selects nothing", []access.Permission{{Effect: access.EffectAllow, Permissions: []string{"SELECT"}}}, "", "(none)"},
		{"unknown label selects nothing", []access.Permission{allow("SELECT", "owner", "x")}, "", "(none)"},
		{"entries add", []access.Permission{allow("SELECT", "schema", "public"), allow("INSERT,UPDATE", "object_kind", "table")}, "t1=INSERT,SELECT,UPDATE t2=INSERT,UPDATE v1=SELECT s1=SELECT", "INSERT: 2 objects (table:2), SELECT: 3 objects (sequence:1, table:1, view:1), UPDATE: 2 objects (table:2)"},
		{"deny removes, whatever the order", []access.Permission{deny("insert ", "name", "t1"), allow("SELECT,INSERT", "object_kind", "table")}, "t1=SELECT t2=INSERT,SELECT", "INSERT: 1 objects (table:1), SELECT: 2 objects (table:2)"},
		{"deny of everything", []access.Permission{allow("SELECT,INSERT", "object_kind", "table"), deny(" * ", "schema", "private")}, "t1=INSERT,SELECT", "INSERT: 1 objects (table:1), SELECT: 1 objects (table:1)"},
		{"deny with an empty match removes nothing", []access.Permission{allow("SELECT", "name", "t1"), {Effect: access.EffectDeny, Permissions: []string{"*"}}}, "t1=SELECT", "SELECT: 1 objects (table:1)"},
		{"case and blanks are ignored, the last spelling is kept", []access.Permission{allow("SELECT", "name", "t1"), allow(" Select ", "name", "t1"), deny("SELECT", "name", "t2")}, "t1=Select", "Select: 1 objects (table:1)"},
		{"patterns", []access.Permission{allow("SELECT", "name", "^t[0-9]$"), deny("SELECT", "name", "*2")}, "t1=SELECT", "SELECT: 1 objects (table:1)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := access.NewPolicy(access.Input{}).ObjectPermissions(db(""), nil, tt.entries, objects)
			var parts []string
			for _, o := range got.Objects {
				parts = append(parts, o.Name+"="+strings.Join(o.Permissions, ","))
			}
			if text := strings.Join(parts, " "); text != tt.want {
				t.Errorf("got %s, want %s", text, tt.want)
			}
			if got.Summary() != tt.summary {
				t.Errorf("summary %s, want %s", got.Summary(), tt.summary)
			}
		})
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("P%02d", i)
	}
	got := access.NewPolicy(access.Input{}).ObjectPermissions(db(""), nil, []access.Permission{allow(strings.Join(many, ","), "name", "t1"), deny("P70", "name", "t1")}, objects)
	if len(got.Objects) != 1 || len(got.Objects[0].Permissions) != 99 {
		t.Errorf("more than 64 permissions: %+v", got)
	}
	got = access.NewPolicy(access.Input{}).ObjectPermissions(db(""), nil, []access.Permission{allow("SELECT", "name", "t1"), deny("SELECT", "name", "^($")}, objects)
	if len(got.Objects) != 0 || got.Dropped != len(objects) {
		t.Errorf("a broken entry: %+v", got)
	}
}

// TestSection5_5OfRoles: which entries a decision collects.
func TestSection5_5OfRoles(t *testing.T) {
	t.Parallel()
	perm := func(schema, permission string) string {
		return `db_permissions: [{match: {schema: ` + schema + `}, permissions: [` + permission + `]}]`
	}
	p := policy(t, role("a", provision("keep", perm("public", "SELECT")))+
		role("off", `allow: {db_labels: {"*": "*"}, `+perm("public", "INSERT")+`}`)+
		role("elsewhere", `options: {create_db_user_mode: keep}, allow: {db_labels: {env: prod}, `+perm("public", "UPDATE")+`}`)+
		role("nodelete", `deny: {`+perm("private", "'*'")+`}`)+
		role("denyelsewhere", `deny: {db_labels: {env: prod}, `+perm("public", "'*'")+`}`))
	d := p.Decide(request(db("env=dev"), "alice", "app", words("a off elsewhere nodelete denyelsewhere")...))
	want := []access.Permission{
		{Effect: access.EffectAllow, Role: "a", Match: resource.LabelSelector{"schema": {"public"}}, Permissions: []string{"SELECT"}},
		{Effect: access.EffectDeny, Role: "nodelete", Match: resource.LabelSelector{"schema": {"private"}}, Permissions: []string{"*"}},
	}
	if diff := cmp.Diff(want, d.Permissions); diff != "" {
		t.Errorf("%v (-want +got):\n%s", d.Err(), diff)
	}
}
