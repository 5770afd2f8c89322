package access_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/access"
)

// fuzzBound is how long any input of up to 64 KiB may take.
const (
	fuzzBound = time.Second
	fuzzInput = 64 << 10
)

func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`labels["env"] == "dev" && !contains(user.spec.traits["x"], "y") // c`, `contains_all(set("a","b"), labels_matching("^(a+)+$"))`,
		`regexp.match(regexp.replace(email.local(labels["a"]), "(a*)*b", "$1$1"), "*a*a*")`, strings.Repeat("(", 1000), strings.Repeat("!", 1000),
	} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text)+len(value) > fuzzInput {
			return
		}
		start := time.Now()
		if e, err := access.ParseExpression(text); err == nil {
			_, _ = e.Match(map[string]string{"env": value, value: "x"}, value, map[string][]string{"x": {value, value}})
		}
		if spent := time.Since(start); spent > fuzzBound {
			t.Fatalf("took %v", spent)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b*c", "aXbYc")
	f.Add("^(a+)+$", strings.Repeat("a", 100))
	f.Add(strings.Repeat("*a", 100), strings.Repeat("a", 100))
	f.Fuzz(func(t *testing.T, pattern, value string) {
		if len(pattern)+len(value) > fuzzInput {
			return
		}
		start := time.Now()
		p, err := access.ParsePattern(pattern)
		if err != nil {
			return
		}
		got := p.Match(value)
		if spent := time.Since(start); spent > fuzzBound {
			t.Fatalf("took %v", spent)
		}
		if strings.HasPrefix(pattern, "^") && strings.HasSuffix(pattern, "$") || len(pattern) > 500 {
			return
		}
		re, err := regexp.Compile("^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + ")$")
		if err == nil && re.MatchString(value) != got && strings.ToValidUTF8(pattern+value, "") == pattern+value {
			t.Fatalf("%q on %q: got %t", pattern, value, got)
		}
	})
}

// TestHostilePatterns: patterns made to be slow are not.
func TestHostilePatterns(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", fuzzInput)
	for _, pattern := range []string{
		strings.Repeat("*a", fuzzInput/4) + "b", strings.Repeat("a*", fuzzInput/4) + "b", "^(a+)+b$", "^(a|a)*b$", "^(.{0,300}){3}b$", "^" + strings.Repeat("a?", 300) + "b$",
	} {
		start := time.Now()
		if p, err := access.ParsePattern(pattern); err == nil && p.Match(long) {
			t.Errorf("%.20s matches", pattern)
		}
		if spent := time.Since(start); spent > 5*fuzzBound { // a loaded machine and the race detector are slow
			t.Errorf("%.20s took %v", pattern, spent)
		}
	}
}
