package access_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// decideCase is one request against one policy.
type decideCase struct {
	name     string
	roles    string // YAML made with role
	have     string // roles of the user; all of the policy when empty
	traits   map[string][]string
	labels   string
	user     string // default postgres
	dbname   string // default app
	outcome  access.Outcome
	text     string // part of the error, its hint, or a reason
	dbRoles  string
	askRoles string
	mode     resource.CreateUserMode // default off
	mfa      bool
}

func runDecideCases(t *testing.T, cases []decideCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := input(parse(t, tt.roles))
			have := words(tt.have)
			if tt.have == "" {
				for _, r := range in.Roles {
					have = append(have, r.GetName())
				}
			}
			q := request(db(tt.labels), "postgres", "app", have...)
			if tt.user != "" {
				q.DatabaseUser = strings.TrimSpace(tt.user)
			}
			if tt.dbname != "" {
				q.DatabaseName = tt.dbname
			}
			q.Traits, q.MFAVerified = tt.traits, tt.mfa
			if tt.askRoles != "" {
				q.DatabaseRoles = words(tt.askRoles) // " " asks for none
			}
			d := access.NewPolicy(in).Decide(q)
			checkDecision(t, d, tt)
		})
	}
}

func checkDecision(t *testing.T, d access.Decision, tt decideCase) {
	t.Helper()
	if d.Outcome != tt.outcome {
		t.Fatalf("got %v (%v), want %v", d.Outcome, d.Err(), tt.outcome)
	}
	everything := ""
	for _, r := range d.Reasons {
		everything += r.Text + "\n"
	}
	if err := d.Err(); (err == nil) != (tt.outcome == access.Allowed) {
		t.Errorf("Err = %v", err)
	} else if err != nil {
		f := fault.Of(err)
		if f.Hint == "" {
			t.Errorf("%v has no hint", err)
		}
		everything += f.Text + "\n" + f.Hint
	}
	if !strings.Contains(everything, tt.text) {
		t.Errorf("nothing says %q:\n%s", tt.text, everything)
	}
	mode := tt.mode
	if mode == 0 {
		mode = resource.ModeOff
	}
	if d.Mode != mode {
		t.Errorf("mode = %v, want %v", d.Mode, mode)
	}
	if want := words(tt.dbRoles); !slices.Equal(d.DatabaseRoles, want) && len(d.DatabaseRoles)+len(want) > 0 {
		t.Errorf("db roles = %v, want %v", d.DatabaseRoles, want)
	}
}

// all is an allow side that grants everything.
const all = `allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: ["*"]}`

// provision is a role spec that creates database users.
func provision(mode, allow string) string {
	return `options: {create_db_user_mode: ` + mode + `}, allow: {db_labels: {"*": "*"}, db_names: ["*"], ` + allow + `}`
}

func TestSection2_3LabelSelectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		selector resource.LabelSelector
		labels   string
		want     bool
	}{
		{"1 empty selects nothing", resource.LabelSelector{}, "", false},
		{"1 empty with labels", resource.LabelSelector{}, "a=b", false},
		{"2 wildcard without labels", resource.LabelSelector{"*": {"*"}}, "", true},
		{"2 wildcard beside other keys", resource.LabelSelector{"*": {"*"}, "a": {"b"}}, "a=c", true},
		{"2 wildcard with more values is a key", resource.LabelSelector{"*": {"*", "x"}}, "a=b", false},
		{"3 key missing", resource.LabelSelector{"a": {"*"}}, "b=c", false},
		{"3 any value", resource.LabelSelector{"a": {"*"}}, "a=x", true},
		{"3 one of the values", resource.LabelSelector{"a": {"x", "y"}}, "a=y", true},
		{"3 every key", resource.LabelSelector{"a": {"x"}, "b": {"y"}}, "a=x", false},
		{"3 every key there", resource.LabelSelector{"a": {"x"}, "b": {"y"}}, "a=x,b=y,c=z", true},
		{"3 no values", resource.LabelSelector{"a": {}}, "a=x", false},
		{"3 empty value", resource.LabelSelector{"a": {""}}, "a=", true},
		{"4 glob", resource.LabelSelector{"a": {"x*z"}}, "a=xyyz", true},
		{"4 glob is the whole value", resource.LabelSelector{"a": {"x*z"}}, "a=xyz1", false},
		{"4 only the star is special", resource.LabelSelector{"a": {"x?z"}}, "a=xyz", false},
		{"4 dot is a dot", resource.LabelSelector{"a": {"x.z*"}}, "a=xyz", false},
		{"4 regexp", resource.LabelSelector{"a": {"^x[0-9]+$"}}, "a=x12", true},
		{"4 regexp as written: starts with", resource.LabelSelector{"a": {"^a|b$"}}, "a=axx", true},
		{"4 regexp as written: ends with", resource.LabelSelector{"a": {"^a|b$"}}, "a=xxb", true},
		{"4 only one anchor is a glob", resource.LabelSelector{"a": {"^x"}}, "a=x", false},
		{"4 case matters", resource.LabelSelector{"a": {"X"}}, "a=x", false},
		{"4 keys are no patterns", resource.LabelSelector{"a*": {"x"}}, "ab=x", false},
		{"4 repeated stars", resource.LabelSelector{"a": {"**a**b**"}}, "a=xaxbx", true},
		{"4 stars overlap", resource.LabelSelector{"a": {"ab*ba"}}, "a=aba", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := access.NewSelector(tt.selector)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Match(db(tt.labels).Metadata.Labels); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
	s, err := access.NewSelector(resource.LabelSelector{"a": {"^($"}})
	if err == nil || s.Match(map[string]string{"a": "("}) {
		t.Errorf("5 an invalid regexp gives %v and selects", err)
	}
	runDecideCases(t, []decideCase{
		{name: "5 invalid regexp in allow", roles: role("a", `allow: {db_labels: {a: "^($"}, db_names: ["*"], db_users: ["*"]}`), labels: "a=(", text: "role a is disabled here because it is broken"},
		{name: "5 the other roles still count", roles: role("a", `allow: {db_labels: {a: "^($"}}`) + role("b", all), outcome: access.Allowed},
		{name: "5 invalid regexp in deny", roles: role("a", `deny: {db_labels: {a: "^($"}}`) + role("b", all), text: "what role a denies cannot be evaluated"},
	})
}

func TestSection2_5LabelsAndExpression(t *testing.T) {
	t.Parallel()
	const rest = `db_names: ["*"], db_users: ["*"]`
	runDecideCases(t, []decideCase{
		{name: "both match", roles: role("a", `allow: {db_labels: {env: dev}, db_labels_expression: 'labels["team"] == "pay"', `+rest+`}`), labels: "env=dev,team=pay", outcome: access.Allowed},
		{name: "only labels match", roles: role("a", `allow: {db_labels: {env: dev}, db_labels_expression: 'labels["team"] == "pay"', `+rest+`}`), labels: "env=dev,team=x", text: `role a allows databases for which labels["team"] == "pay"; this one is not`},
		{name: "only expression matches", roles: role("a", `allow: {db_labels: {env: dev}, db_labels_expression: 'labels["team"] == "pay"', `+rest+`}`), labels: "env=x,team=pay", text: "this one is env=x"},
		{name: "expression alone", roles: role("a", `allow: {db_labels_expression: 'labels["team"] == "pay"', `+rest+`}`), labels: "team=pay", outcome: access.Allowed},
		{name: "neither", roles: role("a", `allow: {`+rest+`}`), text: "ask an administrator for a role"},
		{name: "deny: labels are enough", roles: role("a", `deny: {db_labels: {env: dev}, db_labels_expression: 'labels["team"] == "pay"'}`) + role("b", all), labels: "env=dev", text: "role a denies this database"},
		{name: "deny: expression is enough", roles: role("a", `deny: {db_labels: {env: dev}, db_labels_expression: 'labels["team"] == "pay"'}`) + role("b", all), labels: "team=pay", text: "role a denies this database"},
		{name: "deny: neither matches", roles: role("a", `deny: {db_labels: {env: dev}, db_labels_expression: 'labels["team"] == "pay"'}`) + role("b", all), outcome: access.Allowed},
		{name: "deny: neither is there", roles: role("a", `deny: {}`) + role("b", all), outcome: access.Allowed},
		{name: "broken expression in allow disables the role", roles: role("a", `allow: {db_labels: {"*": "*"}, db_labels_expression: '((', `+rest+`}`), text: "role a is disabled here because it is broken"},
		{name: "broken expression in deny refuses", roles: role("a", `deny: {db_labels_expression: '(('}`) + role("b", all), text: "cannot be evaluated"},
		{name: "evaluation error in allow disables the role", roles: role("a", `allow: {db_labels_expression: 'email.local(labels["x"]) == "a"', `+rest+`}`) + role("b", all), outcome: access.Allowed, text: "role b grants access"},
		{name: "evaluation error in deny refuses", roles: role("a", `deny: {db_labels_expression: 'email.local(labels["x"]) == "a"'}`) + role("b", all), text: "cannot be evaluated"},
		{name: "the disabled role is reported", roles: role("a", `allow: {db_labels_expression: 'email.local(labels["x"]) == "a"'}`) + role("b", all), outcome: access.Allowed, text: "role a is disabled here because it is broken: email.local"},
		{name: "evaluation error alone", roles: role("a", `allow: {db_labels_expression: 'email.local(labels["x"]) == "a"', `+rest+`}`), text: "role a is disabled here because it is broken: email.local"},
	})
}

func TestSection2_6Decision(t *testing.T) {
	t.Parallel()
	dev := `allow: {db_labels: {env: dev}, db_names: [app], db_users: [postgres]}`
	runDecideCases(t, []decideCase{
		{name: "granted", roles: role("a", dev), labels: "env=dev", outcome: access.Allowed, text: "role a grants access"},
		{name: "unknown roles", roles: role("a", all), have: "a none ghost", text: "role ghost of this user does not exist"},
		{name: "the implicit role of other products means nothing", roles: role("a", all), have: "default-implicit-role a", outcome: access.Allowed},
		{name: "other database name", roles: role("a", dev), labels: "env=dev", dbname: "other", text: "role a allows the database names app; not other"},
		{name: "names are no globs", roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["ap*"], db_users: ["*"]}`), text: "not app"},
		{name: "names do not fold case", roles: role("a", dev), labels: "env=dev", dbname: "APP", text: "not APP"},
		{name: "other database user", roles: role("a", dev), labels: "env=dev", user: "root", text: "role a allows the database users postgres; not root"},
		{name: "users do not fold case", roles: role("a", dev), labels: "env=dev", user: "Postgres", text: "not Postgres"},
		{name: "other labels", roles: role("a", dev), labels: "env=prod", text: "role a allows databases labelled env=dev; this one is env=prod"},
		{name: "missing label", roles: role("a", dev), text: "role a allows databases labelled env=dev; this one has no label env"},
		{name: "empty names never match", roles: role("a", `allow: {db_labels: {"*": "*"}, db_users: ["*"]}`), text: "role a allows the database names none"},
		{name: "empty users never match", roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["*"]}`), text: "role a allows the database users none"},
		{name: "labels and names of two roles never combine", roles: role("a", `allow: {db_labels: {env: prod}, db_names: [x], db_users: ["*"]}`) + role("b", `allow: {db_labels: {env: dev}, db_names: ["*"], db_users: ["*"]}`), labels: "env=prod", text: "role a allows the database names x; not app"},
		{name: "names and users of two roles never combine", roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: [app], db_users: [x]}`) + role("b", `allow: {db_labels: {"*": "*"}, db_names: [y], db_users: [postgres]}`), text: "role a allows"},
		{name: "empty user", roles: role("a", all), user: " ", text: "user name must not be empty"},
		{name: "deny labels", roles: role("a", `deny: {db_labels: {env: prod}}`) + role("b", all), labels: "env=prod", text: "role a denies this database"},
		{name: "deny labels do not match", roles: role("a", `deny: {db_labels: {env: prod}}`) + role("b", all), labels: "env=dev", outcome: access.Allowed},
		{name: "deny user hits every database", roles: role("a", `deny: {db_labels: {env: prod}, db_users: [postgres]}`) + role("b", all), labels: "env=dev", text: `role a denies the database user "postgres"`},
		{name: "deny any user", roles: role("a", `deny: {db_users: ["*"]}`) + role("b", all), text: "denies the database user"},
		{name: "deny name hits every database", roles: role("a", `deny: {db_labels: {env: prod}, db_names: [app]}`) + role("b", all), labels: "env=dev", text: `role a denies the database name "app"`},
		{name: "deny other name", roles: role("a", `deny: {db_names: [secret]}`) + role("b", all), outcome: access.Allowed},
		{name: "MFA of a granting role", roles: role("a", `options: {require_session_mfa: true}, `+all) + role("b", all), outcome: access.MFARequired, text: "role a asks for a second factor"},
		{name: "MFA verified", roles: role("a", `options: {require_session_mfa: true}, `+all), mfa: true, outcome: access.Allowed},
		{name: "MFA of a role that does not grant", roles: role("a", `options: {require_session_mfa: true}, `+dev) + role("b", all), outcome: access.Allowed},
		{name: "MFA does not help against deny", roles: role("a", `options: {require_session_mfa: true}, deny: {db_names: [app]}, `+all), text: "denies"},
		{name: "trusted device", roles: role("a", `options: {device_trust_mode: required}, `+all) + role("b", all), text: "this session needs a trusted device"},
		{name: "cluster MFA", roles: role("a", all) + "kind: cluster_auth_preference\nspec: {require_session_mfa: yes}", outcome: access.MFARequired, text: "the cluster asks for a second factor"},
		{name: "cluster MFA verified", roles: role("a", all) + "kind: cluster_auth_preference\nspec: {require_session_mfa: yes}", mfa: true, outcome: access.Allowed},
		{name: "cluster MFA comes before deny", roles: role("a", all+", deny: {db_names: [app]}") + "kind: cluster_auth_preference\nspec: {require_session_mfa: yes}", outcome: access.MFARequired},
		{name: "cluster device trust", roles: role("a", all) + "kind: cluster_auth_preference\nspec: {device_trust: {mode: required}}", text: "the cluster asks for a trusted device"},
		{name: "provisioning: users are not looked at", roles: role("a", provision("keep", `db_users: [x]`)+", deny: {db_users: [alice]}"), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed},
		{name: "provisioning: names still are", roles: role("a", provision("keep", "")+", deny: {db_names: [app]}"), user: "alice", text: `denies the database name "app"`},
		{name: "a longer name does not slip past a denied user", roles: role("a", all+`, deny: {db_users: [`+strings.Repeat("u", 63)+`]}`), user: strings.Repeat("u", 64), text: "longer than the 63 bytes that PostgreSQL allows"},
		{name: "a longer name does not slip past a denied database", roles: role("a", all+`, deny: {db_names: [`+strings.Repeat("d", 63)+`]}`), dbname: strings.Repeat("d", 64), text: "longer than the 63 bytes that PostgreSQL allows"},
		{name: "zero byte", roles: role("a", all), dbname: "app\x00x", text: "has a zero byte"},
		{name: "db role that PostgreSQL would cut", roles: role("a", provision("keep", "db_roles: [reader, "+strings.Repeat("r", 64)+"]")), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader", text: "is left out"},
		{name: "nearest miss first", roles: role("a", `allow: {db_labels: {x: y, z: w}, db_names: ["*"], db_users: ["*"]}`) + role("b", `allow: {db_labels: {env: [dev, stage]}, db_names: ["*"], db_users: ["*"]}`), labels: "env=prod", text: "role b allows databases labelled env=dev or stage; this one is env=prod\nrole a allows databases labelled x=y, z=w; this one has no label x and has no label z"},
	})
	t.Run("empty database name means the user", func(t *testing.T) {
		t.Parallel()
		p := policy(t, role("a", `allow: {db_labels: {"*": "*"}, db_names: [bob], db_users: [bob]}`))
		if d := p.Decide(request(db(""), "bob", "", "a")); d.Err() != nil {
			t.Error(d.Err())
		}
	})
	t.Run("text of 2.6 item 6", func(t *testing.T) {
		t.Parallel()
		err := policy(t, role("a", dev)).Decide(request(db(""), "x", "y", "a")).Err()
		if err == nil || err.Error() != "access to db denied. User does not have permissions. Confirm database user and name." || fault.KindOf(err) != fault.Denied {
			t.Errorf("got %v", err)
		}
		if (access.Decision{}).Err() == nil {
			t.Error("the zero Decision allows")
		}
	})
	t.Run("dynamic labels", func(t *testing.T) {
		t.Parallel()
		q := request(db("env=prod"), "postgres", "app", "a")
		q.Labels = map[string]string{"env": "dev"}
		if d := policy(t, role("a", dev)).Decide(q); d.Err() != nil {
			t.Error(d.Err())
		}
	})
}

func TestSection2_6DenyLists(t *testing.T) {
	t.Parallel()
	base := role("a", provision("keep", `db_roles: [reader, writer, dba]`))
	runDecideCases(t, []decideCase{
		{name: "without labels it subtracts", roles: base + role("b", `deny: {db_roles: [dba]}`), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader writer", text: "db role dba is denied by role b"},
		{name: "of a role that does not provision", roles: base + role("b", `options: {create_db_user_mode: off}, deny: {db_roles: [dba]}`), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader writer"},
		{name: "labels that match refuse the session", roles: base + role("b", `deny: {db_labels: {env: prod}, db_roles: [dba]}`), labels: "env=prod", user: "alice", text: "denies this database"},
		{name: "labels that do not match leave it alone", roles: base + role("b", `deny: {db_labels: {env: prod}, db_roles: [dba]}`), labels: "env=dev", user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "dba reader writer"},
		{name: "expression that does not match leaves it alone", roles: base + role("b", `deny: {db_labels_expression: 'labels["env"] == "prod"', db_roles: [dba]}`), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "dba reader writer"},
		{name: "exact text", roles: base + role("b", `deny: {db_roles: ["db*", DBA]}`), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "dba reader writer"},
		{name: "wildcard takes all", roles: base + role("b", `deny: {db_roles: ["*"]}`), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed},
		{name: "what is denied cannot be asked for", roles: base + role("b", `deny: {db_roles: [dba]}`), user: "alice", askRoles: "dba", text: `access to database role "dba" denied`},
	})
}

func TestSection2_7Mode(t *testing.T) {
	t.Parallel()
	sel := func(mode, labels string) string {
		return `options: {create_db_user_mode: ` + mode + `}, allow: {db_labels: ` + labels + `, db_names: ["*"]}`
	}
	runDecideCases(t, []decideCase{
		{name: "strongest wins", roles: role("a", sel("keep", `{"*": "*"}`)) + role("b", sel("best_effort_drop", `{"*": "*"}`)), user: "alice", mode: resource.ModeBestEffortDrop, outcome: access.Allowed, text: "role b creates database users: best_effort_drop"},
		{name: "reassign is stronger", roles: role("a", sel("best_effort_reassign_and_drop", `{"*": "*"}`)) + role("b", sel("best_effort_drop", `{"*": "*"}`)), user: "alice", mode: resource.ModeBestEffortReassignAndDrop, outcome: access.Allowed},
		{name: "off has no veto", roles: role("a", sel("off", `{"*": "*"}`)) + role("b", sel("keep", `{"*": "*"}`)), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed},
		{name: "labels decide", roles: role("a", sel("best_effort_drop", `{env: prod}`)) + role("b", sel("keep", `{"*": "*"}`)), labels: "env=dev", user: "alice", mode: resource.ModeKeep, outcome: access.Allowed},
		{name: "names do not", roles: role("a", `options: {create_db_user_mode: best_effort_drop}, allow: {db_labels: {"*": "*"}, db_names: [x]}`) + role("b", sel("keep", `{"*": "*"}`)), user: "alice", mode: resource.ModeBestEffortDrop, outcome: access.Allowed},
		{name: "a broken role does not block the others", roles: role("a", `options: {create_db_user_mode: keep}, allow: {db_labels_expression: '(('}`) + role("b", sel("keep", `{"*": "*"}`)), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed},
		{name: "none", roles: role("a", all), outcome: access.Allowed},
	})
}

func TestSection2_8DatabaseRoles(t *testing.T) {
	t.Parallel()
	runDecideCases(t, []decideCase{
		{name: "1 disabled mode", roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: ["*"], db_roles: [reader]}`), askRoles: "anything", outcome: access.Allowed},
		{name: "2 union, sorted, once", roles: role("a", provision("keep", `db_roles: [writer, reader]`)) + role("b", provision("keep", `db_roles: [auditor, reader]`)), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "auditor reader writer", text: "db role auditor comes from role b"},
		{name: "2 only roles that provision", roles: role("a", provision("keep", `db_roles: [reader]`)) + role("b", `allow: {db_labels: {"*": "*"}, db_roles: [writer]}`), user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader"},
		{name: "2 only roles that select the database", roles: role("a", provision("keep", `db_roles: [reader]`)) + role("b", `options: {create_db_user_mode: keep}, allow: {db_labels: {env: prod}, db_roles: [writer]}`), labels: "env=dev", user: "alice", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader"},
		{name: "3 subset", roles: role("a", provision("keep", `db_roles: [reader, writer, dba]`)), user: "alice", askRoles: "writer reader reader", mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader writer"},
		{name: "3 none of them", roles: role("a", provision("keep", `db_roles: [reader]`)), user: "alice", askRoles: " ", mode: resource.ModeKeep, outcome: access.Allowed},
		{name: "3 not granted", roles: role("a", provision("keep", `db_roles: [reader]`)), user: "alice", askRoles: "reader dba", text: `access to database role "dba" denied`},
		{name: "3 nothing granted", roles: role("a", provision("keep", "")), user: "alice", askRoles: "dba", text: "you have no db roles on this database"},
	})
}

func TestSection3_4TemplatesInRoles(t *testing.T) {
	t.Parallel()
	traits := map[string][]string{"team": {"pay", "ops"}, "db_names": {"app", "two"}, "db_users": {"postgres"}, "db_roles": {"reader", "writer"}, "key": {"env"}, "bad": {"^("}, "star": {"*"}}
	runDecideCases(t, []decideCase{
		{name: "names and users", traits: traits, roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["{{internal.db_names}}"], db_users: ["{{external.db_users}}"]}`), outcome: access.Allowed},
		{name: "a failing entry is skipped", traits: traits, roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["{{external.none}}", "{{", "{{internal.nonsense}}", app], db_users: ["*"]}`), outcome: access.Allowed},
		{name: "only failing entries", traits: traits, roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["{{external.none}}"], db_users: ["*"]}`), text: "database names none"},
		{name: "db roles, once", traits: traits, user: "alice", roles: role("a", provision("keep", `db_roles: [reader, "{{internal.db_roles}}", "{{external.db_roles}}"]`)), mode: resource.ModeKeep, outcome: access.Allowed, dbRoles: "reader writer"},
		{name: "trait that is a wildcard", traits: traits, roles: role("a", `allow: {db_labels: {"*": "*"}, db_names: ["{{external.star}}"], db_users: ["*"]}`), outcome: access.Allowed},
		{name: "label values expand", traits: traits, labels: "team=ops", roles: role("a", `allow: {db_labels: {team: "{{external.team}}"}, db_names: ["*"], db_users: ["*"]}`), outcome: access.Allowed},
		{name: "label value missing", traits: traits, labels: "team=", roles: role("a", `allow: {db_labels: {team: "{{external.none}}"}, db_names: ["*"], db_users: ["*"]}`), text: `the user has no trait "none"`},
		{name: "label value filtered away", traits: traits, labels: "team=", roles: role("a", `allow: {db_labels: {team: '{{regexp.replace(external.team, "x", "")}}'}, db_names: ["*"], db_users: ["*"]}`), text: "has no value"},
		{name: "label key", traits: traits, labels: "env=dev", roles: role("a", `allow: {db_labels: {"{{external.key}}": dev}, db_names: ["*"], db_users: ["*"]}`), outcome: access.Allowed},
		{name: "label key missing", traits: traits, labels: "env=dev", roles: role("a", `allow: {db_labels: {"{{external.none}}": dev}, db_names: ["*"], db_users: ["*"]}`), text: "no trait"},
		{name: "two keys become one", traits: traits, labels: "env=dev", roles: role("a", `allow: {db_labels: {"{{external.key}}": dev, env: prod}, db_names: ["*"], db_users: ["*"]}`), text: `two label keys become "env"`},
		{name: "trait that is a broken regexp", traits: map[string][]string{"bad": {"^($"}}, labels: "env=dev", roles: role("a", `allow: {db_labels: {env: "{{external.bad}}"}, db_names: ["*"], db_users: ["*"]}`), text: "invalid regular expression"},
		{name: "deny: names", traits: traits, roles: role("a", `deny: {db_names: ["{{external.db_names}}"]}`) + role("b", all), text: "denies the database name"},
		{name: "deny: a filter that leaves nothing is no failure", traits: traits, roles: role("a", `deny: {db_names: ['{{regexp.replace(external.team, "^no-(.*)$", "$1")}}']}`) + role("b", all), outcome: access.Allowed},
		{name: "deny: a failing entry refuses", traits: traits, roles: role("a", `deny: {db_names: [x, "{{external.none}}"]}`) + role("b", all), text: `what role a denies cannot be evaluated: db_names: the user has no trait "none"`},
		{name: "deny: failing users refuse", traits: traits, roles: role("a", `deny: {db_users: ["{{"]}`) + role("b", all), text: "cannot be evaluated: db_users"},
		{name: "deny: failing db roles refuse", traits: traits, roles: role("a", `deny: {db_roles: ["{{internal.nonsense}}"]}`) + role("b", all), text: "cannot be evaluated: db_roles"},
		{name: "deny: failing labels refuse", traits: traits, roles: role("a", `deny: {db_labels: {"{{external.none}}": x}}`) + role("b", all), text: "cannot be evaluated: db_labels"},
		{name: "deny: failing label values refuse", traits: traits, roles: role("a", `deny: {db_labels: {env: "{{external.none}}"}}`) + role("b", all), text: "cannot be evaluated: db_labels"},
		{name: "deny: labels", traits: traits, labels: "team=ops", roles: role("a", `deny: {db_labels: {team: "{{external.team}}"}}`) + role("b", all), text: "denies this database"},
		{name: "not in expressions", traits: traits, labels: "team={{external.team}}", roles: role("a", `allow: {db_labels_expression: 'labels["team"] == "{{external.team}}"', db_names: ["*"], db_users: ["*"]}`), outcome: access.Allowed},
	})
}

func TestSection4_2SessionUser(t *testing.T) {
	t.Parallel()
	p := policy(t, role("a", provision("keep", "")))
	long := strings.Repeat("x", 64)
	for _, tt := range []struct {
		name   string
		change func(*access.Request)
		kind   fault.Kind
		text   string
	}{
		{"own name", func(*access.Request) {}, 0, ""},
		{"other name", func(q *access.Request) { q.DatabaseUser = "bob" }, fault.Invalid, `please use your username ("alice") to connect instead of "bob"`},
		{"case", func(q *access.Request) { q.DatabaseUser = "Alice" }, fault.Invalid, "please use your username"},
		{"remote", func(q *access.Request) { q.RemoteCluster = "root.example.com" }, fault.Invalid, `please use your mapped remote username ("remote-alice-root.example.com") to connect instead of "alice"`},
		{"remote with the mapped name", func(q *access.Request) { q.RemoteCluster = "root"; q.DatabaseUser = "remote-alice-root" }, 0, ""},
		{"63 bytes", func(q *access.Request) { q.User = long[:63]; q.DatabaseUser = q.User }, 0, ""},
		{"64 bytes", func(q *access.Request) { q.User = long; q.DatabaseUser = q.User }, fault.Denied, "longer than the 63 bytes"},
		{"no admin user", func(q *access.Request) { q.Database.Spec.AdminUser.Name = "" }, fault.Denied, "doesn't have admin user configured"},
		{"type cannot provision", func(q *access.Request) { q.Database.Spec.GCP.ProjectID = "p" }, fault.Denied, "access to db denied"},
	} {
		q := request(db(""), "alice", "app", "a")
		tt.change(&q)
		d := p.Decide(q)
		err := d.Err()
		if tt.text == "" {
			if err != nil || d.DatabaseUser != q.DatabaseUser {
				t.Errorf("%s: got %v, user %q", tt.name, err, d.DatabaseUser)
			}
			continue
		}
		if err == nil || fault.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	q := request(db(""), "postgres", "app", "a", "b")
	q.Database.Spec.GCP.ProjectID = "p"
	err := policy(t, role("a", provision("keep", ""))+role("b", all)).Decide(q).Err()
	if err == nil || !strings.Contains(err.Error(), "your role requires automatic database user provisioning but this database doesn't support it") {
		t.Errorf("got %v", err)
	}
	if got := access.LocalName("alice", ""); got != "alice" {
		t.Errorf("LocalName = %q", got)
	}
}
