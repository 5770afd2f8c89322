package resource_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

var templateTraits = map[string][]string{
	"db_roles":  {"reader", "", "writer"},
	"email":     {"alice@example.com", "Bob <bob@example.com>"},
	"groups":    {"team-pay", "other", "team-ops"},
	"bad":       {"alice@example.com", "not an address"},
	"empty":     {"", ""},
	"long":      {strings.Repeat("x", 5000)},
	"with-dash": {"d"},
}

func TestSection3Templates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"3.1 literal", " as is ", []string{" as is "}},
		{"3.1 single braces are literal", "{a}", []string{"{a}"}},
		{"3.1 variable", "{{internal.db_roles}}", []string{"reader", "writer"}},
		{"3.1 prefix and suffix are trimmed outside only", "  a b-{{ external.db_roles }}-c d  ", []string{"a b-reader-c d", "a b-writer-c d"}},
		{"3.1 blanks inside stay", "a {{external.db_roles}} b", []string{"a reader b", "a writer b"}},
		{"3.1 brackets", `{{external["with-dash"]}}`, []string{"d"}},
		{"3.1 constant", `{{"x"}}`, []string{"x"}},
		{"3.1 raw constant", "{{`x`}}", []string{"x"}},
		{"3.1 nesting", `{{regexp.replace(email.local(external.email), "^a(.*)$", "$1")}}`, []string{"lice"}},
		{"3.2 order of the trait", "{{external.groups}}", []string{"team-pay", "other", "team-ops"}},
		{"3.2 replace drops what does not match", `{{regexp.replace(external.groups, "^team-(.*)$", "$1")}}`, []string{"pay", "ops"}},
		{"3.2 replace by name", `{{regexp.replace(external.groups, "team-(?P<x>.*)", "t_${x}")}}`, []string{"t_pay", "t_ops"}},
		{"3.2 replace all matches", `{{regexp.replace(external.db_roles, "r", "R")}}`, []string{"ReadeR", "wRiteR"}},
		{"3.2 replace to nothing", `{{regexp.replace(external.groups, "^team-.*$", "")}}`, []string{}},
		{"3.2 email.local", "{{email.local(external.email)}}", []string{"alice", "bob"}},
		{"3.2 email.local of a constant", `{{email.local("x@y.z")}}`, []string{"x"}},
		{"3.3 both namespaces read the same", "{{external.db_roles}}", []string{"reader", "writer"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tpl, err := resource.ParseTemplate(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tpl.Expand(templateTraits)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tpl.String() != tt.text || tpl.CanResolve() != nil {
				t.Errorf("String = %q, CanResolve = %v", tpl.String(), tpl.CanResolve())
			}
		})
	}
}

func TestSection3TemplateErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"no end", "{{external.a", "does not end with }}"},
		{"no begin", "external.a}}", "there is no {{"},
		{"two expressions", "{{external.a}}{{external.b}}", "outside the one expression"},
		{"braces in prefix", "{{{external.a}}", "expected namespace.name"},
		{"brace in suffix", "{{external.a}}}", "outside the one expression"},
		{"empty", "{{}}", "expected namespace.name"},
		{"number", "{{123}}", "expected namespace.name"},
		{"no dot", "{{external}}", "expected ."},
		{"deeper dots", "{{external.a.b}}", "does not end with }}"},
		{"no name", "{{external.}}", `expected a name after "external."`},
		{"index is not text", "{{external[a]}}", "expected text in double quotes"},
		{"index is not closed", `{{external["a"}}`, "expected ]"},
		{"single quotes", `{{external['a']}}`, "expected text in double quotes"},
		{"unknown function", "{{strings.upper(external.a)}}", `the function "strings.upper" does not exist`},
		{"matching function", `{{regexp.match("x")}}`, "does not exist"},
		{"no arguments", "{{email.local()}}", "expected namespace.name"},
		{"too many arguments", "{{email.local(external.a, external.b)}}", "expected )"},
		{"too few arguments", `{{regexp.replace(external.a)}}`, "expected ,"},
		{"pattern is a variable", `{{regexp.replace(external.a, external.b, "c")}}`, "expected text in double quotes"},
		{"no replacement", `{{regexp.replace(external.a, "b")}}`, "expected ,"},
		{"replacement is a variable", `{{regexp.replace(external.a, "b", external.c)}}`, "expected text in double quotes"},
		{"pattern is broken", `{{regexp.replace(external.a, "(", "c")}}`, "invalid regular expression"},
		{"pattern is too long", `{{regexp.replace(external.a, "` + strings.Repeat("x", 1100) + `", "c")}}`, "longer than 1024 bytes"},
		{"pattern is too complex", `{{regexp.replace(external.a, "(x{500}){2}y{500}", "c")}}`, "too complex"},
		{"broken inside", `{{email.local(external)}}`, "expected ."},
		{"broken inside replace", `{{regexp.replace(1, "a", "b")}}`, "expected namespace.name"},
		{"too long", "{{external.a}}" + strings.Repeat("x", 5000), "longer than 4096 bytes"},
		{"too deep", "{{" + strings.Repeat("email.local(", 30), "nested too deeply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := resource.ParseTemplate(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "uses template brackets but does not parse") {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if f := fault.Of(err); f.Kind != fault.Invalid || f.Hint == "" {
				t.Errorf("got kind %v and hint %q", f.Kind, f.Hint)
			}
		})
	}
}

func TestSection3_2EvaluationErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		kind fault.Kind
		want string
	}{
		{"{{external.missing}}", fault.NotFound, `the user has no trait "missing"`},
		{"{{external.empty}}", fault.NotFound, `the user has no trait "empty"`},
		{"{{email.local(external.missing)}}", fault.NotFound, "no trait"},
		{`{{regexp.replace(external.missing, "a", "b")}}`, fault.NotFound, "no trait"},
		{"{{email.local(external.bad)}}", fault.Invalid, `"not an address" is not a mail address`},
		{"{{email.local(external.long)}}", fault.Invalid, "too long"},
		{`{{regexp.replace(external.long, "a", "b")}}`, fault.Invalid, "too long"},
		{"{{internal.nonsense}}", fault.Invalid, "unsupported variable internal.nonsense"},
		{"{{other.db_roles}}", fault.Invalid, `unknown template namespace "other"`},
	} {
		tpl, err := resource.ParseTemplate(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpl.Expand(templateTraits)
		if err == nil || fault.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", tt.text, err)
		}
		if resolves := tpl.CanResolve() == nil; resolves == strings.HasPrefix(tt.want, "un") {
			t.Errorf("%s: CanResolve = %v", tt.text, tpl.CanResolve())
		}
	}
	if _, err := resource.CompileRegexp("a{1000}{1000}"); err == nil {
		t.Error("a huge repetition compiles")
	}
}
