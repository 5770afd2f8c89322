package access_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// drawRoles draws one to four roles over small alphabets, so that selectors,
// names and denies meet often. Values include globs, regular expressions, broken
// ones, and templates that resolve, fail or are filtered away.
func drawRoles(t *rapid.T) []*resource.Role {
	n := rapid.IntRange(1, 4).Draw(t, "roles")
	roles := make([]*resource.Role, n)
	for i := range roles {
		roles[i] = drawRole(t, string(rune('a'+i)))
	}
	return roles
}

func drawRole(t *rapid.T, name string) *resource.Role {
	r := &resource.Role{Kind: "role", Version: "v7", Metadata: resource.Metadata{Name: name}}
	r.Spec.Options.CreateDBUserMode = rapid.SampledFrom([]resource.CreateUserMode{
		resource.ModeUnspecified, resource.ModeUnspecified, resource.ModeOff, resource.ModeKeep, resource.ModeBestEffortDrop,
	}).Draw(t, "mode")
	r.Spec.Options.RequireSessionMFA = rapid.SampledFrom([]resource.SessionMFA{"", "", "", resource.SessionMFARequired}).Draw(t, "mfa")
	r.Spec.Allow = drawConditions(t, often)
	r.Spec.Deny = drawConditions(t, seldom)
	return r
}

// coin is a chance made of fair coins, because numbers are drawn with a bias.
type coin func(t *rapid.T, name string) bool

func coins(t *rapid.T, name string, n int) []bool {
	return rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, name)
}

// often is 7 of 8, evenly 1 of 2, seldom 1 of 16.
func often(t *rapid.T, name string) bool  { return slices.Contains(coins(t, name, 3), true) }
func evenly(t *rapid.T, name string) bool { return rapid.Bool().Draw(t, name) }
func seldom(t *rapid.T, name string) bool { return !slices.Contains(coins(t, name, 4), false) }

// drawConditions draws one side, of which each part is there by chance.
func drawConditions(t *rapid.T, chance coin) resource.RoleConditions {
	var c resource.RoleConditions
	present := func(name string) bool { return chance(t, name) }
	list := func(name string, values ...string) []string {
		if !present(name) {
			return nil
		}
		values = append(values, values...)
		return rapid.SliceOfN(rapid.SampledFrom(append(values, "{{external.t}}", "{{external.none}}", `{{regexp.replace(external.t, "zz", "")}}`)), 1, 2).Draw(t, name)
	}
	if present("labels") {
		c.DatabaseLabels = resource.LabelSelector{}
		for range rapid.IntRange(1, 2).Draw(t, "keys") {
			key := rapid.SampledFrom([]string{"env", "team", "*", "*"}).Draw(t, "key")
			c.DatabaseLabels[key] = rapid.SliceOfN(rapid.SampledFrom([]string{"dev", "dev", "prod", "*", "*", "d*", "^d.*$", "^($", "{{external.t}}", "{{external.none}}"}), 1, 2).Draw(t, "values")
			if key == "*" {
				c.DatabaseLabels[key] = []string{"*"}
			}
		}
	}
	if present("expression?") && seldom(t, "really?") {
		c.DatabaseLabelsExpression = rapid.SampledFrom(slices.Sorted(maps.Keys(slowExpressions))).Draw(t, "expression")
	}
	c.DatabaseNames = list("names", "app", "*", "*")
	c.DatabaseUsers = list("users", "alice", "*", "*")
	c.DatabaseRoles = list("roles", "reader", "writer", "dba")
	return c
}

func drawRequest(t *rapid.T, roles []*resource.Role) access.Request {
	d := db("")
	for _, key := range []string{"env", "team"} {
		if v := rapid.SampledFrom([]string{"", "dev", "prod", "x"}).Draw(t, key); v != "" {
			d.Metadata.Labels[key] = v
		}
	}
	q := request(d, rapid.SampledFrom([]string{"alice", "root"}).Draw(t, "user"), rapid.SampledFrom([]string{"app", "db"}).Draw(t, "name"))
	for _, r := range roles {
		q.Roles = append(q.Roles, r.GetName())
	}
	q.Traits = map[string][]string{"t": {rapid.SampledFrom([]string{"dev", "app", "reader", "x"}).Draw(t, "trait")}}
	q.DatabaseRoles = rapid.SampledFrom([][]string{nil, nil, {}, {"reader"}, {"writer", "reader"}}).Draw(t, "ask")
	q.MFAVerified = rapid.Bool().Draw(t, "verified")
	return q
}

// slowExpressions are the expressions that are drawn, with their meaning. An error
// is the second result.
var slowExpressions = map[string]func(labels map[string]string, t []string) (bool, bool){
	`labels["env"] == "dev"`: func(l map[string]string, _ []string) (bool, bool) { return l["env"] == "dev", false },
	`contains(user.spec.traits["t"], labels["team"])`: func(l map[string]string, t []string) (bool, bool) {
		return slices.Contains(t, l["team"]), false
	},
	`email.local(labels["env"]) == "x"`: func(map[string]string, []string) (bool, bool) { return false, true },
	`((`:                                func(map[string]string, []string) (bool, bool) { return false, true },
}

// slow is the obviously correct evaluator: every rule of behaviour.md as one plain
// step, nothing prepared and nothing shared with the real one.
type slow struct {
	q      access.Request
	roles  []*resource.Role
	labels map[string]string
}

// values replaces the few templates that are drawn.
func (s slow) values(list []string) (out []string, failed bool) {
	for _, v := range list {
		switch v {
		case "{{external.t}}":
			out = append(out, s.q.Traits["t"]...)
		case "{{external.none}}":
			failed = true
		case `{{regexp.replace(external.t, "zz", "")}}`:
		default:
			out = append(out, v)
		}
	}
	return out, failed
}

func (s slow) has(list []string, value string) bool {
	values, _ := s.values(list)
	return slices.Contains(values, "*") || slices.Contains(values, value)
}

// selector returns whether the labels match and whether the selector is broken.
func (s slow) selector(sel resource.LabelSelector) (match, broken bool) {
	if slices.Equal(sel["*"], []string{"*"}) {
		return true, false
	}
	match = true
	for _, key := range slices.Sorted(maps.Keys(sel)) {
		values, failed := s.values(sel[key])
		if failed {
			return false, true
		}
		one := false
		for _, v := range values {
			pattern := "^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(v), `\*`, ".*") + ")$"
			if strings.HasPrefix(v, "^") && strings.HasSuffix(v, "$") {
				pattern = v
			}
			re, err := regexp.Compile(pattern)
			if err != nil {
				return false, true
			}
			have, found := s.labels[key]
			one = one || found && re.MatchString(have)
		}
		match = match && one
	}
	return match && len(sel) > 0, false
}

func (s slow) expression(text string) (match, broken bool) {
	if text == "" {
		return false, false
	}
	return slowExpressions[text](s.labels, s.q.Traits["t"])
}

// selects is the allow side of §2.5.
func (s slow) selects(c resource.RoleConditions) bool {
	labels, broken := s.selector(c.DatabaseLabels)
	expr, brokenExpr := s.expression(c.DatabaseLabelsExpression)
	if len(c.DatabaseLabels) == 0 && c.DatabaseLabelsExpression == "" || broken || brokenExpr {
		return false
	}
	return (len(c.DatabaseLabels) == 0 || labels) && (c.DatabaseLabelsExpression == "" || expr)
}

// denies is the deny side: labels, expression, names, users, and everything that
// cannot be evaluated.
func (s slow) denies(c resource.RoleConditions, provisions bool) bool {
	labels, broken := s.selector(c.DatabaseLabels)
	expr, brokenExpr := s.expression(c.DatabaseLabelsExpression)
	for _, list := range [][]string{c.DatabaseNames, c.DatabaseUsers, c.DatabaseRoles} {
		_, failed := s.values(list)
		broken = broken || failed
	}
	return broken || brokenExpr || labels || expr || s.has(c.DatabaseNames, s.q.DatabaseName) || !provisions && s.has(c.DatabaseUsers, s.q.DatabaseUser)
}

func (s slow) decide() (access.Outcome, resource.CreateUserMode, []string) {
	mode := resource.ModeOff
	for _, r := range s.roles {
		if s.selects(r.Spec.Allow) {
			mode = max(mode, r.Spec.Options.CreateUserMode())
		}
	}
	provisions := mode.Enabled()
	for _, r := range s.roles {
		if s.denies(r.Spec.Deny, provisions) {
			return access.Denied, resource.ModeOff, nil
		}
	}
	granted, mfa := false, false
	for _, r := range s.roles {
		a := r.Spec.Allow
		if s.selects(a) && s.has(a.DatabaseNames, s.q.DatabaseName) && (provisions || s.has(a.DatabaseUsers, s.q.DatabaseUser)) {
			granted = true
			mfa = mfa || r.Spec.Options.RequireSessionMFA.Required() && !s.q.MFAVerified
		}
	}
	switch {
	case !granted:
		return access.Denied, resource.ModeOff, nil
	case mfa:
		return access.MFARequired, resource.ModeOff, nil
	case !provisions:
		return access.Allowed, mode, nil
	case s.q.DatabaseUser != s.q.User:
		return access.Denied, resource.ModeOff, nil
	}
	return s.databaseRoles(mode)
}

func (s slow) databaseRoles(mode resource.CreateUserMode) (access.Outcome, resource.CreateUserMode, []string) {
	set := map[string]bool{}
	for _, r := range s.roles {
		if r.Spec.Options.CreateUserMode().Enabled() && s.selects(r.Spec.Allow) {
			values, _ := s.values(r.Spec.Allow.DatabaseRoles)
			for _, v := range values {
				set[v] = true
			}
		}
	}
	for _, r := range s.roles {
		if d := r.Spec.Deny; len(d.DatabaseLabels) == 0 && d.DatabaseLabelsExpression == "" {
			values, _ := s.values(d.DatabaseRoles)
			for _, v := range values {
				delete(set, v)
			}
		}
	}
	if s.q.DatabaseRoles == nil {
		return access.Allowed, mode, slices.Sorted(maps.Keys(set))
	}
	for _, v := range s.q.DatabaseRoles {
		if !set[v] {
			return access.Denied, resource.ModeOff, nil
		}
	}
	return access.Allowed, mode, slices.Sorted(slices.Values(s.q.DatabaseRoles))
}

// TestDecisionEqualsSlowEvaluator: the fast evaluator and the obvious one agree.
func TestDecisionEqualsSlowEvaluator(t *testing.T) {
	t.Parallel()
	seen := map[access.Outcome]int{}
	check := func(t *rapid.T) {
		roles := drawRoles(t)
		q := drawRequest(t, roles)
		d := access.NewPolicy(access.Input{Roles: roles}).Decide(q)
		outcome, mode, dbRoles := slow{q, roles, q.Database.Metadata.Labels}.decide()
		seen[outcome]++
		if d.Outcome != outcome || d.Mode != mode || !slices.Equal(d.DatabaseRoles, dbRoles) && len(d.DatabaseRoles)+len(dbRoles) > 0 {
			t.Fatalf("got %v %v %v (%v, %v), want %v %v %v", d.Outcome, d.Mode, d.DatabaseRoles, d.Err(), d.Reasons, outcome, mode, dbRoles)
		}
	}
	for range 10 { // the default of 100 cases is too few for a policy
		rapid.Check(t, check)
	}
	t.Logf("outcomes: %v", seen)
	if seen[access.Allowed] == 0 || seen[access.Denied] == 0 {
		t.Errorf("the cases are one-sided: %v", seen)
	}
}

// TestRoleOrderNeverMatters: shuffling the roles of a user, or of the policy,
// changes nothing, down to the reasons.
func TestRoleOrderNeverMatters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		roles := drawRoles(t)
		q := drawRequest(t, roles)
		want := access.NewPolicy(access.Input{Roles: roles}).Decide(q)
		q.Roles = append(rapid.Permutation(q.Roles).Draw(t, "order"), q.Roles[0])
		got := access.NewPolicy(access.Input{Roles: rapid.Permutation(roles).Draw(t, "defined")}).Decide(q)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(access.Decision{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// rank orders outcomes by how much they give.
func rank(o access.Outcome) int {
	return map[access.Outcome]int{access.Denied: 0, access.MFARequired: 1, access.Allowed: 2}[o]
}

// TestAddingADenyNeverWidens: whatever deny is added, the outcome does not get
// better and no db role appears.
func TestAddingADenyNeverWidens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		roles := drawRoles(t)
		q := drawRequest(t, roles)
		before := access.NewPolicy(access.Input{Roles: roles}).Decide(q)
		changed := slices.Clone(roles)
		if rapid.Bool().Draw(t, "in a role of its own") {
			changed = append(changed, &resource.Role{Kind: "role", Version: "v7", Metadata: resource.Metadata{Name: "deny"}, Spec: resource.RoleSpec{Deny: drawConditions(t, evenly)}})
			q.Roles = append(q.Roles, "deny")
		} else {
			extra := drawConditions(t, evenly)
			r := *changed[0]
			d := &r.Spec.Deny
			d.DatabaseNames = slices.Concat(d.DatabaseNames, extra.DatabaseNames)
			d.DatabaseUsers = slices.Concat(d.DatabaseUsers, extra.DatabaseUsers)
			d.DatabaseRoles = slices.Concat(d.DatabaseRoles, extra.DatabaseRoles)
			changed[0] = &r
		}
		after := access.NewPolicy(access.Input{Roles: changed}).Decide(q)
		if rank(after.Outcome) > rank(before.Outcome) {
			t.Fatalf("%v became %v", before.Outcome, after.Outcome)
		}
		for _, r := range after.DatabaseRoles {
			if !slices.Contains(before.DatabaseRoles, r) {
				t.Fatalf("db role %s appeared", r)
			}
		}
	})
}

// TestTemplatesStayInTheirFrame: a template never gives a value outside prefix,
// trait value and suffix.
func TestTemplatesStayInTheirFrame(t *testing.T) {
	t.Parallel()
	text := rapid.StringMatching(`[a-z $*.^-]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		prefix, suffix := text.Draw(t, "prefix"), text.Draw(t, "suffix")
		traits := rapid.SliceOf(rapid.String()).Draw(t, "traits")
		tpl, err := resource.ParseTemplate(prefix + "{{external.x}}" + suffix)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tpl.Expand(map[string][]string{"x": traits})
		var want []string
		for _, v := range traits {
			if v != "" {
				want = append(want, strings.TrimLeft(prefix, " ")+v+strings.TrimRight(suffix, " "))
			}
		}
		if (err != nil) != (len(want) == 0) || err == nil && !slices.Equal(got, want) {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	})
}

// TestOverviewAgreesWithDecide: what a listing shows is what a connection gets.
func TestOverviewAgreesWithDecide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		roles := drawRoles(t)
		q := drawRequest(t, roles)
		q.DatabaseRoles, q.MFAVerified = nil, true
		p := access.NewPolicy(access.Input{Roles: roles})
		d, o := p.Decide(q), p.Overview(q)
		if d.Outcome != access.Allowed {
			return
		}
		in := func(allowed, denied []string, v string) bool {
			return (slices.Contains(allowed, v) || slices.Contains(allowed, "*")) && !slices.Contains(denied, v)
		}
		if !o.Visible || o.Mode != d.Mode || !in(o.AllowedUsers, o.DeniedUsers, q.DatabaseUser) || !in(o.AllowedNames, o.DeniedNames, q.DatabaseName) || !slices.Equal(o.DatabaseRoles, d.DatabaseRoles) {
			t.Fatalf("%+v\n%+v", o, d)
		}
	})
}
