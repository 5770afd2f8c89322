package access_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func TestWhoCan(t *testing.T) {
	t.Parallel()
	rs := parse(t, role("dev", `allow: {db_labels: {env: dev}, db_names: [app, postgres], db_users: [root, ro]}, deny: {db_users: [root]}`)+
		role("auto", provision("keep", `db_roles: [reader]`))+
		role("mfa", `options: {require_session_mfa: true}, `+all)+
		role("nopg", `deny: {db_names: [postgres, postgres_]}`)+role("all", all)+`kind: user
metadata: {name: dave}
spec: {roles: [dev]}
---
kind: user
metadata: {name: anna}
spec: {roles: [auto]}
---
kind: user
metadata: {name: mia}
spec: {roles: [mfa, nopg]}
---
kind: user
metadata: {name: nobody}
spec: {roles: []}
---
kind: user
metadata: {name: both}
spec: {roles: [dev, mfa]}
---
kind: user
metadata: {name: ghost}
spec: {roles: [unknown]}
`)
	var users []*resource.User
	for _, r := range rs {
		if u, ok := r.(*resource.User); ok {
			users = append(users, u)
		}
	}
	p := access.NewPolicy(input(rs))
	who := func(labels, user, name string) map[string]access.Answer {
		found := map[string]access.Answer{}
		last := ""
		for _, a := range access.WhoCan(p, users, access.Request{Database: db(labels), DatabaseUser: user, DatabaseName: name}) {
			if a.User < last {
				t.Error("not sorted")
			}
			last = a.User
			if len(a.Reasons) == 0 {
				t.Errorf("no reasons for %s", a.User)
			}
			a.Reasons = nil
			found[a.User] = a
		}
		return found
	}
	want := map[string]access.Answer{
		"anna": {User: "anna", Outcome: access.Allowed, Mode: "keep", DatabaseUsers: words("anna"), DatabaseNames: words("*"), DatabaseRoles: words("reader")},
		"dave": {User: "dave", Outcome: access.Allowed, Mode: "off", DatabaseUsers: words("ro"), DatabaseNames: words("app postgres")},
		"mia":  {User: "mia", Outcome: access.MFARequired, Mode: "off", DatabaseUsers: words("*"), DatabaseNames: words("*")},
		"both": {User: "both", Outcome: access.MFARequired, Mode: "off", DatabaseUsers: words("*"), DatabaseNames: words("*")},
	}
	if diff := cmp.Diff(want, who("env=dev", "", ""), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("dev (-want +got):\n%s", diff)
	}
	delete(want, "dave")
	if diff := cmp.Diff(want, who("env=prod", "", ""), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("prod (-want +got):\n%s", diff)
	}
	if got := who("env=dev", "ro", "app"); len(got) != 3 || got["dave"].DatabaseNames[0] != "app" || got["dave"].DatabaseUsers[0] != "ro" {
		t.Errorf("ro on app: %+v", got) // anna has to use her own name
	}
	if got := who("env=dev", "", "other"); len(got) != 3 {
		t.Errorf("other: %+v", got)
	}
	text, err := json.Marshal(access.WhoCan(p, nil, access.Request{Database: db("")}))
	if err != nil || string(text) != "[]" {
		t.Errorf("nobody: %s, %v", text, err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	p := policy(t, role("mfa", `options: {require_session_mfa: true}, allow: {db_labels: {"*": "*"}, db_names: [a], db_users: [x]}`)+
		role("plain", `allow: {db_labels: {"*": "*"}, db_names: [b], db_users: [y]}`)+role("denied", `allow: {db_labels: {"*": "*"}, db_names: [c], db_users: [z]}, deny: {db_names: [c]}`))
	q := access.Request{User: "alice", Roles: words("mfa plain"), Database: db("")}
	if d := p.Explain(q); d.Outcome != access.Allowed || d.DatabaseUser != "y" {
		t.Errorf("got %v as %s, want the pair without second factor", d.Outcome, d.DatabaseUser)
	}
	q.DatabaseName = "a"
	if d := p.Explain(q); d.Outcome != access.MFARequired {
		t.Errorf("got %v", d.Outcome)
	}
	q.Roles, q.DatabaseName = words("denied"), ""
	if d := p.Explain(q); d.Outcome != access.Denied || d.Err() == nil {
		t.Errorf("got %v", d.Outcome)
	}
	q.Roles, q.Labels = nil, map[string]string{"a": "b"}
	if d := p.Explain(q); d.Outcome != access.Denied || len(d.Reasons) != 0 {
		t.Errorf("got %v %v", d.Outcome, d.Reasons)
	}
}

func TestPolicyTests(t *testing.T) {
	t.Parallel()
	rs := parse(t, role("dev", `options: {create_db_user_mode: keep}, allow: {db_labels: {env: dev}, db_names: [app], db_roles: [reader], db_permissions: [{match: {object_kind: table, schema: public}, permissions: [select]}]}`)+
		role("mfa", `options: {require_session_mfa: true}, `+all)+"kind: user\nmetadata: {name: carol}\nspec: {roles: [mfa]}\n---\nkind: db\nmetadata: {name: given}\nspec: {protocol: postgres, uri: x}\n")
	p := access.NewPolicy(input(rs))
	users := []*resource.User{rs[2].(*resource.User)}
	databases := []*resource.Database{rs[3].(*resource.Database)}
	const head = "users:\n- {name: alice, roles: [dev]}\ndatabases:\n- {name: shop, labels: {env: dev}, admin_user: admin}\n- {name: prod, labels: {env: prod}, uri: 'db:1'}\ntests:\n"
	for _, tt := range []struct{ name, test, title, failure string }{
		{"can", "can: {user: alice, database: shop}", "alice can connect to shop", ""},
		{"can with all", "{can: {user: alice, database: shop, db_name: app, db_user: alice, db_roles: [reader]}, with: {mode: keep, db_user: alice, db_roles: [reader], objects: [{name: t, permissions: [SELECT]}, {kind: view, name: v}]}}", "alice can connect to shop/app as alice with reader", ""},
		{"cannot", "{cannot: {user: alice, database: prod}, because: env=prod}", "alice cannot connect to prod", ""},
		{"needs mfa", "{name: carol is careful, needs_mfa: {user: carol, database: given}}", "carol is careful", ""},
		{"mfa done", "{can: {user: carol, database: given, mfa: true}, because: role mfa grants access}", "carol can connect to given", ""},
		{"remote", "{cannot: {user: alice, cluster: root, database: shop, db_user: alice}, because: remote-alice-root}", "", ""},
		{"wrong outcome", "can: {user: alice, database: prod}", "", "want allowed, got denied: access to db denied"},
		{"wrongly allowed", "cannot: {user: alice, database: shop}", "", "want denied, got allowed"},
		{"wrong reason", "{cannot: {user: alice, database: prod}, because: nonsense}", "", `no reason mentions "nonsense"`},
		{"wrong mode", "{can: {user: alice, database: shop}, with: {mode: best_effort_drop}}", "", "want mode best_effort_drop, got keep"},
		{"wrong user", "{can: {user: alice, database: shop}, with: {db_user: x}}", "", "want db_user x, got alice"},
		{"wrong roles", "{can: {user: alice, database: shop}, with: {db_roles: []}}", "", "want db_roles [], got [reader]"},
		{"wrong permissions", "{can: {user: alice, database: shop}, with: {objects: [{schema: public, name: t, database: app, permissions: [SELECT, INSERT]}]}}", "", "want [INSERT SELECT] on table public.t, got [SELECT]"},
		{"unknown user", "can: {user: zoe, database: shop}", "", `there is no user "zoe"`},
		{"unknown database", "can: {user: alice, database: nope}", "", `there is no database "nope"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := access.ParseTests("x_test.yaml", []byte(head+"- "+tt.test))
			if err != nil {
				t.Fatal(err)
			}
			got := p.RunTests(f, users, databases)[0]
			if tt.title != "" && got.Name != tt.title {
				t.Errorf("name = %q, want %q", got.Name, tt.title)
			}
			if got.Passed != (tt.failure == "") || !strings.Contains(strings.Join(got.Failures, "\n"), tt.failure) {
				t.Errorf("passed %t, failures %q, want %q", got.Passed, got.Failures, tt.failure)
			}
		})
	}
	for _, tt := range []struct{ text, want string }{
		{"", "there are no tests"},
		{"testz: []", `did you mean "tests"?`},
		{"tests: [{name: x}]", "test 1: write exactly one of can, cannot and needs_mfa"},
		{"tests: [{can: {user: a, database: b}, cannot: {user: a, database: b}}]", "exactly one"},
		{"tests: [{can: {user: a}}]", "needs user and database"},
		{"tests: [{cannot: {user: a, database: b}, with: {db_user: a}}]", "so it needs can"},
		{"users: [{name: ''}]\ntests: [{can: {user: a, database: b}}]", "user has no name"},
		{"databases: [{name: '1'}]\ntests: [{can: {user: a, database: b}}]", "invalid database name"},
	} {
		_, err := access.ParseTests("x_test.yaml", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "x_test.yaml") {
			t.Errorf("%q: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"seed role", role("r", provision("keep", `db_roles: [reader, "{{internal.db_roles}}", "{{external.db_roles}}"]`)), ""},
		{"role about other things", role("r", `allow: {logins: [root]}`), ""},
		{"disabled", role("r", `allow: {db_labels: {a: "^($"}, db_names: [x], db_users: [y]}`), "role/r: the role is disabled, because what it allows is broken: allow of role r: label \"a\": invalid regular expression"},
		{"broken expression", role("r", `allow: {db_labels_expression: "((", db_names: [x], db_users: [y]}`), "the role is disabled"},
		{"refuses", role("r", `deny: {db_labels_expression: "(("}`), "refuses every session, because what it denies is broken"},
		{"no values", role("r", `allow: {db_labels: {a: []}, db_names: [x], db_users: [y]}`), "allow.db_labels can never match: the label a has no values"},
		{"label called star", role("r", `deny: {db_labels: {"*": x}}`), "a key is never a pattern"},
		{"no labels", role("r", `allow: {db_names: [x], db_users: [y]}`), "can never match a database"},
		{"no names", role("r", `allow: {db_labels: {"*": "*"}, db_users: [y]}`), "can never grant access: allow.db_names is empty"},
		{"no users", role("r", `allow: {db_labels: {"*": "*"}, db_names: [y]}`), "allow.db_users is empty, and no role creates database users"},
		{"no users, but another provisions", role("r", `allow: {db_labels: {"*": "*"}, db_names: [y]}`) + role("s", provision("keep", "")), ""},
		{"db roles without mode", role("r", `allow: {db_labels: {"*": "*"}, db_names: [x], db_users: [y], db_roles: [z]}`), "allow.db_roles is never used"},
		{"permissions without mode", role("r", `allow: {db_labels: {"*": "*"}, db_names: [x], db_users: [y], db_permissions: [{match: {a: b}, permissions: [SELECT]}]}`), "allow.db_permissions is never used"},
		{"deny roles beside labels", role("r", `deny: {db_labels: {a: b}, db_roles: [x]}`), "deny.db_roles is shadowed by the labels beside it"},
		{"deny permissions beside labels", role("r", `deny: {db_labels: {a: b}, db_permissions: [{match: {a: b}, permissions: [SELECT]}]}`), "deny.db_permissions is shadowed"},
		{"deny everything", role("r", `deny: {db_labels: {"*": "*"}}`), "no access at all"},
		{"star shadows denies", role("r", `deny: {db_names: [a, "*"]}`), `the other values of deny.db_names are shadowed by "*"`},
		{"star shadows allows", role("r", `allow: {db_labels: {"*": "*"}, db_names: [a], db_users: [b]}, deny: {db_names: ["*"]}`), `allow.db_names is shadowed by "*"`},
		{"taken back", role("r", `allow: {db_labels: {"*": "*"}, db_names: [a], db_users: [b]}, deny: {db_users: [b]}`), `allow.db_users has "b", which deny.db_users takes back`},
		{"broken template", role("r", `allow: {db_labels: {"*": "*"}, db_names: ["{{"], db_users: [b]}`), "does not parse"},
		{"unsupported variable", role("r", provision("keep", `db_roles: ["{{internal.nonsense}}"]`)), "unsupported variable internal.nonsense; the entry is never used"},
		{"label template", role("r", `allow: {db_labels: {a: "{{internal.nonsense}}"}, db_names: [a], db_users: [b]}`), "unsupported variable internal.nonsense; the role can never match"},
		{"deny template", role("r", `deny: {db_names: ["{{internal.nonsense}}"]}`), "unsupported variable internal.nonsense; the role refuses every session"},
		{"pinned", role("r", `options: {pin_source_ip: true}`), "pin_source_ip is not enforced"},
		{"device", role("r", `options: {device_trust_mode: required}`), "trusted devices cannot be verified"},
		{"hardware key", role("r", `options: {require_session_mfa: hardware_key_touch}`), "hardware keys are not told"},
		{"import rule", rule("r", 0, `{match: {table_names: ["^($"]}, add_labels: {a: b}}`), "no object gets permissions where the rule applies, because it is broken: mapping 1"},
		{"import rule labels", "kind: db_object_import_rule\nmetadata: {name: r}\nspec: {database_labels: [{name: a, values: ['^($']}], mappings: [{match: {table_names: ['*']}, add_labels: {a: b}}]}", "no object gets permissions anywhere"},
		{"import rule without match", rule("r", 0, `{match: {}, add_labels: {a: b}}`), "mapping 1 matches no objects"},
		{"lock", "kind: lock\nmetadata: {name: l}\nspec: {target: {mfa_device: x}}", "lock/l: no database session has what this lock targets"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var texts []string
			for _, w := range policy(t, tt.text).Warnings() {
				texts = append(texts, w.String())
			}
			got := strings.Join(texts, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	broken := resource.DefaultImportRule()
	broken.Spec.Mappings[0].AddLabels["x"] = "{{nonsense}}"
	w := access.NewPolicy(access.Input{ImportRules: []*resource.ImportRule{broken}}).Warnings()
	if len(w) != 1 || !strings.Contains(w[0].Text, "does not parse") {
		t.Errorf("stored rule with a broken template: %v", w)
	}
}
