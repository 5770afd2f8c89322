package resource_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/resource"
)

func TestSection2_1Versions(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"v3", "v4", "v5", "v6", "v7", "v8"} {
		r := parseOne(t, "kind: role\nversion: "+v+"\nmetadata: {name: r}").(*resource.Role)
		got := r.Spec.Allow.DatabaseLabels
		if v == "v3" && !slices.Equal(got["*"], []string{"*"}) || v != "v3" && got != nil {
			t.Errorf("%s: missing allow.db_labels become %v", v, got)
		}
		if r.Spec.Deny.DatabaseLabels != nil {
			t.Errorf("%s: deny.db_labels got a default", v)
		}
		roundTrip(t, r)
	}
	for _, v := range []string{"", "v1", "v2", "v9"} {
		got := parseError(t, "kind: role\nversion: '"+v+"'\nmetadata: {name: r}")
		if !strings.Contains(got, `role version "`+v+`" is not supported`) {
			t.Errorf("%q: %s", v, got)
		}
	}
	r := parseOne(t, "kind: role\nversion: v3\nmetadata: {name: r}\nspec: {allow: {db_labels: {}}}").(*resource.Role)
	if r.Spec.Allow.DatabaseLabels == nil || len(r.Spec.Allow.DatabaseLabels) != 0 {
		t.Errorf("empty db_labels of v3 become %v", r.Spec.Allow.DatabaseLabels)
	}
	roundTrip(t, r) // the empty selector must not turn into the default on the way
}

func TestSection2_2Validation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, spec, want string }{
		{"wildcard db role", `allow: {db_roles: [a, "*"]}`, "wildcard is not allowed in allow.database_roles"},
		{"wildcard db role in deny", `deny: {db_roles: ["*"]}`, ""},
		{"selector", `allow: {db_labels: {"*": x}}`, "selector *:x is not supported"},
		{"selector with more", `allow: {db_labels: {"*": ["*", x]}}`, "selector *:*,x is not supported"},
		{"selector in deny", `deny: {db_labels: {"*": x}}`, ""},
		{"service selector", `allow: {db_service_labels: {"*": x}}`, "selector *:x is not supported"},
		{"everything", `allow: {db_labels: {"*": "*", a: b}}`, ""},
		{"no permissions", `allow: {db_permissions: [{match: {a: b}}]}`, "failed to process 'allow' db_permission #1: database permission list cannot be empty"},
		{"empty permission", `deny: {db_permissions: [{match: {a: b}, permissions: [" "]}]}`, "failed to process 'deny' db_permission #1: individual database permissions cannot be empty strings"},
		{"wildcard permission", `allow: {db_permissions: [{match: {a: b}, permissions: ["*"]}]}`, "individual database permissions cannot be wildcards strings"},
		{"wildcard permission in deny", `deny: {db_permissions: [{match: {a: b}, permissions: ["*"]}]}`, ""},
		{"match", `deny: {db_permissions: [{match: {"*": b}, permissions: [SELECT]}]}`, "selector *:b is not supported"},
		{"second entry", `allow: {db_permissions: [{match: {a: b}, permissions: [SELECT]}, {permissions: []}]}`, "db_permission #2"},
		{"lock", `options: {lock: x}`, "invalid lock"},
		{"negative connections", `options: {max_connections: -1}`, "max_connections cannot be negative"},
		{"unknown function in template", `allow: {db_names: ["{{foo.bar(external.x)}}"]}`, ""},
		{"unknown internal trait", `allow: {db_names: ["{{internal.nonsense}}"]}`, ""},
		{"broken template", `allow: {db_names: ["{{"]}`, ""},
		{"broken expression", `allow: {db_labels_expression: "((("}`, ""},
		{"namespace in names", `allow: {db_names: ["{{foo.bar}}"]}`, `unknown template namespace "foo"`},
		{"namespace in users", `deny: {db_users: ["{{email.local(foo.bar)}}"]}`, `unknown template namespace "foo"`},
		{"namespace in roles", `allow: {db_roles: ['{{regexp.replace(foo.bar, "a", "b")}}']}`, `unknown template namespace "foo"`},
		{"namespace in label key", `allow: {db_labels: {"{{foo.bar}}": x}}`, `unknown template namespace "foo"`},
		{"namespace in label value", `deny: {db_labels: {a: [b, "{{foo.bar}}"]}}`, `unknown template namespace "foo"`},
		{"no namespace", `allow: {db_names: ['{{"constant"}}']}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := "kind: role\nversion: v7\nmetadata: {name: r}\nspec: {" + tt.spec + "}"
			if tt.want == "" {
				roundTrip(t, parseOne(t, text))
				return
			}
			if got := parseError(t, text); !strings.Contains(got, tt.want) {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestSection5_6PermissionNames: names are checked for the kinds we know.
func TestSection5_6PermissionNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ match, permission, want string }{
		{"{object_kind: table}", "SELECT", ""},
		{"{object_kind: table}", `" select "`, ""},
		{"{object_kind: table}", "MAINTAIN", ""},
		{"{object_kind: table}", "EXECUTE", `unrecognized "table" Postgres permission: "EXECUTE"`},
		{"{object_kind: table}", "SELCT", `did you mean "SELECT"?`},
		{"{object_kind: sequence}", "USAGE", ""},
		{"{object_kind: sequence}", "INSERT", `unrecognized "sequence"`},
		{"{object_kind: [procedure, function]}", "EXECUTE", ""},
		{"{object_kind: [table, procedure]}", "EXECUTE", ""},
		{"{object_kind: own_kind}", "ANYTHING", ""},
		{`{object_kind: "*"}`, "EXECUTE", ""},
		{`{object_kind: "^t.*$"}`, "NONSENSE", "unrecognized"},
		{"{schema: public}", "USAGE", ""},
		{"{schema: public}", "NONSENSE", `unrecognized "object" Postgres permission: "NONSENSE"`},
	} {
		text := "kind: role\nversion: v7\nmetadata: {name: r}\nspec: {allow: {db_permissions: [{match: " + tt.match + ", permissions: [" + tt.permission + "]}]}}"
		if tt.want == "" {
			parseOne(t, text)
		} else if got := parseError(t, text); !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: got %s, want %s", tt.match, tt.permission, got, tt.want)
		}
	}
	for _, kind := range resource.ObjectKinds() {
		if len(resource.Privileges(kind)) == 0 {
			t.Errorf("%s has no permissions", kind)
		}
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	u := parseOne(t, "kind: user\nmetadata: {name: a@b.c}\nspec: {roles: dev}").(*resource.User)
	if u.Version != "v2" || len(u.Spec.Roles) != 1 {
		t.Errorf("%+v", u)
	}
	for text, want := range map[string]string{
		"kind: user\nversion: v1\nmetadata: {name: a}":                   "user version",
		"kind: user\nmetadata: {name: a}\nspec: {roles: ['']}":           "a role name is empty",
		"kind: user\nmetadata: {name: \"a\\u0007\"}\nspec: {roles: [a]}": "control characters",
	} {
		if got := parseError(t, text); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSection5_3ImportRuleValidation(t *testing.T) {
	t.Parallel()
	const head = "kind: db_object_import_rule\nmetadata: {name: r}\n"
	const labels, mapping = `database_labels: [{name: "*", values: ["*"]}]`, `mappings: [{match: {table_names: ["*"]}, add_labels: {a: b}}]`
	for _, tt := range []struct{ name, text, want string }{
		{"good", head + "spec: {" + labels + ", " + mapping + "}", ""},
		{"no name", "kind: db_object_import_rule\nspec: {" + labels + ", " + mapping + "}", "has no name"},
		{"version", "kind: db_object_import_rule\nversion: v2\nmetadata: {name: r}\nspec: {" + labels + ", " + mapping + "}", "version"},
		{"no spec", head, "missing spec"},
		{"no database labels", head + "spec: {" + mapping + "}", "missing database_labels"},
		{"unnamed label", head + "spec: {database_labels: [{values: [a]}], " + mapping + "}", "a label has no name"},
		{"no mappings", head + "spec: {" + labels + "}", "missing mappings"},
		{"empty key", head + "spec: {" + labels + `, mappings: [{match: {}, add_labels: {"": b}}]}`, "a label key is empty"},
		{"unknown fact", head + "spec: {" + labels + `, mappings: [{match: {}, add_labels: {a: "{{obj.owner}}"}}]}`, "not a fact about an object"},
		{"other namespace", head + "spec: {" + labels + `, mappings: [{match: {}, add_labels: {a: "{{external.x}}"}}]}`, "not a fact about an object"},
		{"function", head + "spec: {" + labels + `, mappings: [{match: {}, add_labels: {a: "{{email.local(obj.name)}}"}}]}`, "not a fact about an object"},
		{"two templates", head + "spec: {" + labels + `, mappings: [{match: {}, add_labels: {a: "{{obj.name}}{{obj.name}}"}}]}`, "does not parse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.want == "" {
				parseOne(t, tt.text)
			} else if got := parseError(t, tt.text); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if err := resource.Validate(&resource.ImportRule{Kind: "role"}); err == nil || !strings.Contains(err.Error(), "invalid kind role, expected db_object_import_rule") {
		t.Errorf("got %v", err)
	}
	rule := resource.DefaultImportRule()
	if err := resource.Validate(rule); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, rule)
	for _, kind := range resource.ObjectKinds() {
		if !slices.Equal(rule.Spec.Mappings[0].Match.Names(kind), []string{"*"}) {
			t.Errorf("the default rule leaves out %s", kind)
		}
	}
	if rule.Spec.Mappings[0].Match.Names("other") != nil {
		t.Error("an unknown kind has names")
	}
	for text, want := range map[string]resource.ObjectTemplate{
		" x ":                     {Prefix: "x"},
		"a-{{obj.schema}}-b":      {Prefix: "a-", Field: "schema", Suffix: "-b"},
		`{{obj["object_kind"]}} `: {Field: "object_kind"},
	} {
		if got, err := resource.ParseObjectTemplate(text); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
}

func TestLockAndClusterSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"lock without target", "kind: lock\nmetadata: {name: a}", "has no target"},
		{"lock version", "kind: lock\nversion: v1\nmetadata: {name: a}\nspec: {target: {user: a}}", "lock version"},
		{"misspelt target", "kind: lock\nmetadata: {name: a}\nspec: {target: {usr: a}}", `did you mean "user"?`},
		{"tolerated target", "kind: lock\nmetadata: {name: a}\nspec: {target: {mfa_device: a}}", ""},
		{"preference", "kind: cluster_auth_preference", ""},
		{"second factor", "kind: cluster_auth_preference\nspec: {second_factor: x}", "invalid second_factor"},
		{"second factors", "kind: cluster_auth_preference\nspec: {second_factors: [otp, x]}", "invalid second factor"},
		{"preference version", "kind: cluster_auth_preference\nversion: v1", "version"},
		{"networking", "kind: cluster_networking_config", ""},
		{"networking version", "kind: cluster_networking_config\nversion: v1", "version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.want == "" {
				roundTrip(t, parseOne(t, tt.text))
			} else if got := parseError(t, tt.text); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
