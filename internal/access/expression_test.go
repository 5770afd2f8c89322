package access_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

var (
	expressionLabels = map[string]string{"env": "dev", "team": "pay", "owner": "Alice@Example.com", "team-x": "ops", "empty": ""}
	expressionTraits = map[string][]string{
		"teams": {"pay", "ops"}, "one": {"pay"}, "groups": {"db-pay", "other"}, "mail": {"alice@example.com", "Bob <bob@example.com>"}, "none": {},
	}
)

func TestSection2_4Expressions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want bool
	}{
		{`labels["env"] == "dev"`, true},
		{`labels["env"] != "dev"`, false},
		{`labels["missing"] == ""`, true},
		{"labels[`env`] == `dev`", true},
		{`user.metadata.name == "alice"`, true},
		{`labels["env"] == labels["team"]`, false},
		{`labels["env"] == "dev" && labels["team"] == "x"`, false},
		{`labels["env"] == "x" || labels["team"] == "pay"`, true},
		{`!(labels["env"] == "dev")`, false},
		{`!!(labels["env"] == "dev")`, true},
		{`(labels["env"] == "dev")`, true},
		{"labels[\"env\"] == \"dev\" // a comment && labels[\"x\"] == \"y\"\n || // more\n labels[\"a\"] == \"b\"", true},
		{"// first\nlabels[\"env\"] == \"dev\"", true},
		{`contains(user.spec.traits["teams"], "pay")`, true},
		{`contains(user.spec.traits["teams"], labels["team"])`, true},
		{`contains(user.spec.traits["missing"], "pay")`, false},
		{`contains("pay", labels["team"])`, true}, // one string is a list of one
		{`contains_any(user.spec.traits["teams"], set("x", "ops"))`, true},
		{`contains_any(user.spec.traits["teams"], set("x"))`, false},
		{`contains_any(user.spec.traits["teams"], set())`, false},
		{`contains_all(user.spec.traits["teams"], set("pay", "ops"))`, true},
		{`contains_all(user.spec.traits["teams"], set("pay", "x"))`, false},
		{`contains_all(user.spec.traits["teams"], set())`, false},
		{`contains_all(user.spec.traits["teams"], user.spec.traits["none"])`, false},
		{`regexp.match(labels["env"], "d*")`, true},
		{`regexp.match(labels["env"], "d")`, false},
		{`regexp.match(labels["env"], "^d.v$")`, true},
		{`regexp.match(user.spec.traits["teams"], "op*")`, true},
		{`regexp.match(user.spec.traits["none"], "*")`, false},
		{`contains(regexp.replace(user.spec.traits["groups"], "^db-(.*)$", "$1"), "pay")`, true},
		{`contains(regexp.replace(user.spec.traits["groups"], "^db-(.*)$", "$1"), "other")`, false},
		{`regexp.replace(labels["env"], "d", "x") == "xev"`, true},
		{`contains(regexp.replace(labels["env"], "zzz", "x"), "")`, false}, // dropped, not empty
		{`contains(email.local(user.spec.traits["mail"]), "bob")`, true},
		{`email.local(labels["owner"]) == "Alice"`, true},
		{`strings.lower(labels["owner"]) == "alice@example.com"`, true},
		{`strings.upper(labels["env"]) == "DEV"`, true},
		{`contains(strings.upper(user.spec.traits["teams"]), "OPS")`, true},
		{`contains(labels_matching("team*"), "ops")`, true},
		{`contains_all(labels_matching("^team(-x)?$"), set("ops", "pay"))`, true},
		{`contains(labels_matching("nothing*"), "ops")`, false},
		{`contains(user.spec.traits["teams"], email.local(labels["owner"]))`, false},
		{`labels["env"] == "{{external.x}}"`, false}, // templates are not replaced
	} {
		e, err := access.ParseExpression(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got, err := e.Match(expressionLabels, "alice", expressionTraits)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %t, %v; want %t", tt.text, got, err, tt.want)
		}
		if e.String() != tt.text {
			t.Errorf("String = %q", e.String())
		}
	}
}

func TestSection2_4ParseErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{``, "line 1, column 1: expected a value, found the end"},
		{`labels["a"]`, "the expression is a string, not a condition"},
		{`user.spec.traits["a"]`, "the expression is a []string, not a condition"},
		{`user.spec.traits["a"] == "x"`, "operator (==) not supported for type: []string"},
		{`"x" == user.spec.traits["a"]`, "operator (==) not supported for type: []string"},
		{`"x" != (labels["a"] == "b")`, "operator (!=) not supported for type: bool"},
		{`"x" && labels["a"] == "b"`, "operator (&&) not supported for type: string"},
		{`labels["a"] == "b" || user.spec.traits["a"]`, "operator (||) not supported for type: []string"},
		{`!"x"`, "operator (!) not supported for type: string"},
		{`labels["a"] == "b" labels["c"] == "d"`, `expected an operator, found "labels"`},
		{"labels[\"a\"] ==\n  ==", `line 2, column 3: expected a value, found "=="`},
		{`labels["ä"] == "b" && x`, `column 23: the name "x" does not exist here`},
		{`labels.a == "b"`, `the name "labels.a" does not exist here`},
		{`labels == "b"`, `write labels["key"]`},
		{`labels[a] == "b"`, `write labels["key"]`},
		{`labels["a" == "b"`, `expected "]"`},
		{`(labels["a"] == "b"`, `expected ")", found the end`},
		{`labels["a] == "b"`, "expected"},
		{`labels["a`, "the text is not closed"},
		{`"\z" == "b"`, "unknown escape"},
		{`labels["a"] = "b"`, `unexpected character '='`},
		{`labels["a"] == 'b'`, `unexpected character '\''`},
		{`1 == 2`, `the name "1" does not exist here`},
		{`nonsense("a")`, `the function "nonsense" does not exist`},
		{`contains("a")`, "contains takes 2 arguments, found 1"},
		{`contains("a", "b", "c")`, "contains takes 2 arguments, found 3"},
		{`contains("a" "b")`, `expected ","`},
		{`contains("a",)`, `expected a value, found ")"`},
		{`contains("a", `, "expected a value, found the end"},
		{`contains("a", set("b"))`, "use contains_any for a list"},
		{`contains(labels["a"] == "b", "c")`, "contains does not take a bool"},
		{`contains(set(user.spec.traits["a"]), "b")`, "set: each argument is one string"},
		{`regexp.match("a", labels["b"])`, "the pattern must be written out in quotes"},
		{`regexp.match("a", "^($")`, "invalid regular expression"},
		{`contains(regexp.replace("a", labels["b"], "c"), "d")`, "must be written out in quotes"},
		{`contains(regexp.replace("a", "(", "c"), "d")`, "invalid regular expression"},
		{`contains(labels_matching("^($"), "d")`, "invalid regular expression"},
		{`contains(labels_matching(labels["a"]), "d")`, "the pattern must be written out in quotes"},
		{`labels["a"] > "b"`, "unexpected character '>'"},
		{strings.Repeat("(", 60), "nested deeper than 50"},
		{strings.Repeat("!", 60), "nested deeper than 50"},
		{strings.Repeat("set(", 60), "nested deeper than 50"},
		{strings.Repeat(`labels["a"] == "b" || `, 200), "more than 500 parts"},
		{strings.Repeat(" ", 9000), "longer than 8192 bytes"},
	} {
		_, err := access.ParseExpression(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.60s: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestSection2_4EvaluationErrors: an error anywhere that is reached is an error of
// the whole, never a match, also under a negation.
func TestSection2_4EvaluationErrors(t *testing.T) {
	t.Parallel()
	const bad = `email.local(labels["env"])`
	for _, text := range []string{
		bad + ` == "a"`, `"a" == ` + bad, bad + ` != "a"`, `!(` + bad + ` == "a")`, `contains(` + bad + `, "a")`, `contains("a", ` + bad + `)`,
		`labels["env"] == "dev" && ` + bad + ` == "a"`, `labels["env"] == "x" || ` + bad + ` == "a"`, bad + ` == "a" || labels["env"] == "dev"`,
		bad + ` == "a" && labels["env"] == "dev"`, `contains_any(set(` + bad + `), "a")`, `regexp.match(` + bad + `, "*")`, `strings.lower(` + bad + `) == "a"`,
	} {
		e, err := access.ParseExpression(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Match(expressionLabels, "alice", expressionTraits)
		if err == nil || got || !strings.Contains(err.Error(), `email.local: "dev" is not a mail address`) {
			t.Errorf("%s: got %t, %v", text, got, err)
		}
	}
	e, err := access.ParseExpression(`labels["env"] == "dev" || ` + bad + ` == "a"`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Match(expressionLabels, "alice", nil); !got || err != nil {
		t.Errorf("what is not reached is an error: %t, %v", got, err)
	}
}
