package resource_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// parseOne returns the only resource of a text.
func parseOne(t *testing.T, text string) resource.Resource {
	t.Helper()
	rs, err := resource.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) != 1 {
		t.Fatalf("got %d resources, want 1", len(rs))
	}
	return rs[0]
}

// parseError returns the text of the error that a text must cause.
func parseError(t *testing.T, text string) string {
	t.Helper()
	rs, err := resource.Parse("test.yaml", []byte(text))
	if err == nil {
		t.Fatalf("no error for:\n%s", text)
	}
	if rs != nil {
		t.Error("resources were returned beside an error")
	}
	if fault.KindOf(err) != fault.Invalid {
		t.Errorf("kind = %v, want invalid", fault.KindOf(err))
	}
	return err.Error()
}

// roundTrip checks that a resource survives YAML and JSON.
func roundTrip(t *testing.T, r resource.Resource) {
	t.Helper()
	text, err := resource.EncodeYAML(r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, parseOne(t, string(text))); diff != "" {
		t.Errorf("YAML round trip (-want +got):\n%s\n%s", diff, text)
	}
	stored, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := resource.DecodeJSON(r.GetKind(), stored)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("JSON round trip (-want +got):\n%s\n%s", diff, stored)
	}
	into := resource.New(r.GetKind())
	if err := json.Unmarshal(stored, into); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, into); diff != "" {
		t.Errorf("json.Unmarshal (-want +got):\n%s", diff)
	}
}

func TestEveryKindRoundTrips(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/all_kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rs, err := resource.Parse("all_kinds.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range rs {
		seen[r.GetKind()] = true
		if r.GetMetadata().Name != r.GetName() {
			t.Errorf("GetMetadata().Name = %q, GetName() = %q", r.GetMetadata().Name, r.GetName())
		}
		roundTrip(t, r)
		if err := resource.Validate(r); err != nil {
			t.Errorf("Validate after Parse: %v", err)
		}
	}
	for _, kind := range resource.Kinds() {
		if !seen[kind] {
			t.Errorf("testdata has no %s", kind)
		}
		if got := resource.New(kind).GetKind(); got != kind {
			t.Errorf("New(%q) is a %q", kind, got)
		}
	}
	if resource.New("nonsense") != nil {
		t.Error("New made something of an unknown kind")
	}
}

// TestFieldsOfOtherProtocolsArePreserved covers Appendix A: what we do not use is
// given back as it came.
func TestFieldsOfOtherProtocolsArePreserved(t *testing.T) {
	t.Parallel()
	r := parseOne(t, `
kind: role
version: v7
metadata: {name: r, id: 7}
spec:
  options:
    forward_agent: true
    port_forwarding: no
    cert_extensions: [{name: a, value: 1.5, deep: {x: null, y: 0x10, t: 2020-01-02}}]
    record_session: {default: strict, desktop: true, db: tag}
  allow:
    logins: [root]
    kubernetes_resources: [{kind: pod, name: "*"}]
    request: {roles: [dba], max_duration: 4d}
`).(*resource.Role)
	want := resource.Other{
		"forward_agent": true, "port_forwarding": "no",
		"cert_extensions": []any{map[string]any{
			"name": "a", "value": 1.5, "deep": map[string]any{"x": nil, "y": int64(16), "t": "2020-01-02"},
		}},
	}
	if diff := cmp.Diff(want, r.Spec.Options.Other); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if got := r.Spec.Options.RecordLevel(); got != resource.RecordTag {
		t.Errorf("record level = %q, want tag", got)
	}
	text, err := resource.EncodeYAML(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"forward_agent: true", `port_forwarding: "no"`, "max_duration: 4d", "- root", "default: strict", "id: 7"} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%q is missing from:\n%s", part, text)
		}
	}
	roundTrip(t, r)
}

// TestErrorsPointAtThePlace is the golden test of error texts.
func TestErrorsPointAtThePlace(t *testing.T) {
	t.Parallel()
	got := parseError(t, `kind: role
version: v7
metadata:
  name: dev
spec:
  options:
    create_db_user_mod: keep
    max_session_ttl: 3days
  allow:
    db_label: {env: dev}
    db_names: {a: b}
    create_db_user_mode: keep
    db_roles: ["*"]
---
kind: rolle
`)
	want := `test.yaml:7:5: unknown field "create_db_user_mod", did you mean "create_db_user_mode"?
    7 |     create_db_user_mod: keep
      |     ^
test.yaml:8:22: "3days" is not a duration; write it like 30h, 1h30m or 90s
    8 |     max_session_ttl: 3days
      |                      ^
test.yaml:10:5: unknown field "db_label", did you mean "db_labels"?
   10 |     db_label: {env: dev}
      |     ^
test.yaml:11:15: expected a list, found a mapping
   11 |     db_names: {a: b}
      |               ^
test.yaml:12:5: unknown field "create_db_user_mode", it belongs under spec.options
   12 |     create_db_user_mode: keep
      |     ^
test.yaml:13:16: wildcard is not allowed in allow.database_roles, name each db role
   13 |     db_roles: ["*"]
      |                ^
test.yaml:15:7: unknown kind "rolle", did you mean "role"?
   15 | kind: rolle
      |       ^`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err := resource.Parse("test.yaml", []byte("kind: rolle"))
	if ps, ok := errors.AsType[resource.Problems](err); !ok || len(ps) != 1 || ps[0].Line != 1 || ps[0].Path != "kind" {
		t.Errorf("the structured problems are %+v", ps)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	role := "kind: role\nversion: v7\nmetadata: {name: r}\n"
	tests := []struct{ name, text, want string }{
		{"nothing", "", "the file holds no resource"},
		{"only comments", "# nothing\n---\n", "the file holds no resource"},
		{"not text", "kind: \xff", "not UTF-8"},
		{"too large", strings.Repeat("#", 1<<20+1), "larger than"},
		{"scalar document", "hello", `expected a resource, found "hello"`},
		{"list document", "- a", "expected a resource, found a list"},
		{"no kind", "version: v7", "has no kind"},
		{"unknown kind", "kind: zzzzzzzzzz", "one of cluster_auth_preference"},
		{"syntax", "kind: [", "test.yaml:"},
		{"tab", "kind: role\n\tversion: v7", "blanks, not tabs"},
		{"alias", role + "spec: {allow: {db_names: [&a x], db_users: [*a]}}", "aliases are not supported"},
		{"alias in other fields", role + "spec: {allow: {logins: [&a x, *a]}}", "aliases are not supported"},
		{"merge key", role + "spec: {<<: {allow: {}}}", "a key must be plain text"},
		{"key is a list", role + "spec: {[a]: b}", "a key must be plain text"},
		{"duplicate key", role + "spec: {allow: {db_names: [a], db_names: [b]}}", `the key "db_names" is there twice, first in line 4`},
		{"strange tag", role + "spec: {allow: {db_names: [!foo x]}}", `the tag "!foo" is not supported`},
		{"strange tag in other fields", role + "spec: {allow: {logins: [!foo x]}}", `the value "x" is not supported`},
		{"no real bool", role + "spec: {allow: {logins: [!!bool x]}}", `the value "x" is not supported`},
		{"not a number", role + "spec: {allow: {logins: [.inf]}}", `the value ".inf" is not supported`},
		{"integer too large", role + "spec: {allow: {logins: [!!int 99999999999999999999]}}", "is not supported, quote it"},
		{"empty list entry", role + "spec: {allow: {db_names: [a, ]}}\n---\n" + role + "spec: {allow: {db_names: [~]}}", "a list entry is empty"},
		{"list where mapping", role + "spec: [a]", "expected a mapping, found a list"},
		{"text where mapping", role + "spec: {allow: {db_labels: x}}", `expected a mapping, found "x"`},
		{"mapping where list of mappings", role + "spec: {allow: {db_permissions: {match: {a: b}}}}", `begin each entry with "- "`},
		{"mapping where text", role + "spec: {options: {request_access: {a: b}}}", "expected text, found a mapping"},
		{"list where bool", role + "spec: {options: {create_db_user: [a]}}", "expected yes or no, found a list"},
		{"text where bool", role + "spec: {options: {create_db_user: maybe}}", `expected yes or no, found "maybe"`},
		{"text where number", role + "spec: {options: {max_connections: many}}", `expected a number, found "many"`},
		{"too deep", role + "spec: {allow: {logins: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}}", "max depth"},
		{"name with slash", "kind: role\nversion: v7\nmetadata: {name: a/b}", `invalid role name "a/b"`},
		{"name with blank", "kind: role\nversion: v7\nmetadata: {name: ' a'}", "begins or ends with a blank"},
		{"name too long", "kind: role\nversion: v7\nmetadata: {name: " + strings.Repeat("a", 256) + "}", "at most 255 bytes"},
		{"no name", "kind: role\nversion: v7", "role has no name"},
		{"bad time", "kind: role\nversion: v7\nmetadata: {name: a, expires: soon}", `"soon" is not a time`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := parseError(t, tt.text); !strings.Contains(got, tt.want) {
				t.Errorf("got %s\nwant it to contain %q", got, tt.want)
			}
		})
	}
}

func TestErrorsStayPrintable(t *testing.T) {
	t.Parallel()
	got := parseError(t, "kind: role\nversion: v7\nmetadata: {name: r, "+strings.Repeat(" ", 300)+"\u0085xyz: \"\\e[31m\"}")
	for _, line := range strings.Split(got, "\n") {
		if len(line) > 400 {
			t.Errorf("a line of the error has %d bytes", len(line))
		}
	}
	var many strings.Builder
	many.WriteString("kind: role\nversion: v7\nmetadata: {name: r}\nspec:\n")
	for range 60 {
		many.WriteString("  - x\n")
	}
	many.Reset()
	many.WriteString("kind: role\nversion: v7\nmetadata: {name: r}\nspec:\n  options:\n")
	for i := range 60 {
		many.WriteString("    zzzzzzzzzzzz" + strings.Repeat("q", i) + ": 1\n")
	}
	if got := parseError(t, many.String()); !strings.HasSuffix(got, "and 10 more") {
		t.Errorf("the list does not end with the number of the others: %s", got[len(got)-100:])
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, kind, text, want string }{
		{"unknown kind", "nonsense", "{}", `unknown kind "nonsense"`},
		{"not JSON", "role", "{", "not valid JSON"},
		{"broken inside", "role", `{"spec": [}`, "not valid JSON"},
		{"two values", "role", "{} {}", "data after the end"},
		{"too deep", "role", strings.Repeat("[", 100), "nested deeper"},
		{"unknown field", "role", `{"version":"v7","metadata":{"name":"a"},"spec":{"alow":{}}}`, `spec.alow: unknown field "alow"`},
		{"invalid", "role", `{"version":"v1","metadata":{"name":"a"}}`, `version: role version "v1" is not supported`},
		{"not an object", "db", `[1]`, "expected a mapping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := resource.DecodeJSON(tt.kind, []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != fault.Invalid {
				t.Errorf("got %v, want an invalid fault with %q", err, tt.want)
			}
		})
	}
	for _, kind := range resource.Kinds() {
		if err := resource.New(kind).(json.Unmarshaler).UnmarshalJSON([]byte(`{"x":1}`)); err == nil {
			t.Errorf("%s accepts an unknown field", kind)
		}
	}
	var r resource.Role
	if err := r.UnmarshalJSON([]byte("x")); err == nil || !strings.Contains(err.Error(), "the role is not valid JSON") {
		t.Errorf("got %v", err)
	}
}

type decodeConfig struct {
	Hub      *decodeHub               `json:"hub"`
	Enabled  bool                     `json:"enabled"`
	Port     uint16                   `json:"port"`
	Ratio    float64                  `json:"ratio"`
	TTL      resource.Duration        `json:"ttl"`
	Admin    resource.AdminUser       `json:"admin_user"`
	Labels   map[string]string        `json:"labels"`
	Resource []resource.LabelSelector `json:"resources"`
	Any      any                      `json:"any"`
	decodeShared
	Skipped string `json:"-"`
}

type decodeShared struct {
	Name string `json:"name"`
}

type decodeHub struct {
	Addr string `json:"addr"`
}

func TestDecodeStrict(t *testing.T) {
	t.Parallel()
	want := decodeConfig{
		Hub: &decodeHub{Addr: ":443"}, Enabled: true, Port: 5432, Ratio: 0.5, TTL: resource.Duration(5400e9),
		Admin: resource.AdminUser{Name: "boss"}, Labels: map[string]string{"a": "1", "b": "true"},
		Resource: []resource.LabelSelector{{"env": {"prod"}}}, Any: []any{int64(1)}, decodeShared: decodeShared{Name: "kept"},
	}
	got := decodeConfig{decodeShared: decodeShared{Name: "kept"}, Port: 1}
	err := resource.DecodeStrict("postern.yaml", []byte(`
hub: {addr: ":443"}
enabled: "yes"
port: 5432
ratio: 0.5
ttl: 1h30m
admin_user: boss
labels: {a: 1, b: true}
resources: [{env: prod}]
any: [1]
name:
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(decodeConfig{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := resource.DecodeStrict("empty.yaml", nil, &got); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for _, tt := range []struct{ text, want string }{
		{"hubb: 1", `did you mean "hub"?`},
		{"addr: x", `unknown field "addr", it belongs under hub`},
		{"Skipped: 1", "unknown field"},
		{"any: .nan", `the value ".nan" is not supported`},
		{"port: 70000", `expected a number, found "70000"`},
		{"ratio: x", `expected a number, found "x"`},
		{"- a", "expected a mapping, found a list"},
		{"port: 1\n---\nport: 2", "more than one document"},
		{"port: x\nenabled: [", "postern.yaml:3:"},
	} {
		err := resource.DecodeStrict("postern.yaml", []byte(tt.text), &decodeConfig{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestSuggestions: only words that are near are suggested.
func TestSuggestions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, want string }{
		{"craete_db_user_mode", `did you mean "create_db_user_mode"?`},
		{"CREATE_DB_USER_MODE", `did you mean "create_db_user_mode"?`},
		{"lokc", `did you mean "lock"?`},
		{"zz", ""},
		{strings.Repeat("x", 100), ""},
	} {
		got := parseError(t, "kind: role\nversion: v7\nmetadata: {name: r}\nspec: {options: {"+tt.key+": 1}}")
		if tt.want == "" && strings.Contains(got, "did you mean") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %q", tt.key, got, tt.want)
		}
	}
}

// TestJSONByValue: a resource inside another struct keeps the fields of other
// protocols, whether it is there as a pointer or not.
func TestJSONByValue(t *testing.T) {
	t.Parallel()
	r := parseOne(t, "kind: role\nversion: v7\nmetadata: {name: r}\nspec: {options: {forward_agent: true}}").(*resource.Role)
	got, err := json.Marshal(map[string]any{"role": *r})
	if err != nil || !strings.Contains(string(got), `"forward_agent":true`) {
		t.Errorf("got %s, %v", got, err)
	}
}
