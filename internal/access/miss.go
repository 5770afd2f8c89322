package access

import (
	"cmp"
	"fmt"
	"slices"
)

// maxMisses bounds the near misses of one refusal: the nearest few are what helps.
const maxMisses = 3

// miss is how near a role came to granting access.
type miss struct {
	role     int
	distance int // smaller is nearer
}

// misses explains a refusal that no rule asked for: the roles that came nearest to
// allowing it and what each of them lacked, the nearest first.
func (e *evaluation) misses() []Reason {
	var all []miss
	for i := range e.roles {
		if d := e.distance(i); d > 0 {
			all = append(all, miss{i, d})
		}
	}
	slices.SortFunc(all, func(a, b miss) int { return cmp.Or(a.distance-b.distance, a.role-b.role) })
	var reasons []Reason
	for _, m := range all[:min(len(all), maxMisses)] {
		rule, text := e.describeMiss(m.role)
		reasons = append(reasons, Reason{Effect: EffectMiss, Rule: rule, Role: e.roles[m.role].name, Text: text})
	}
	return reasons
}

// distance rates a role that does not grant: one or two for a name or user that is
// not listed, more for labels, most for a role that is broken. Zero means that
// the role has nothing to do with databases.
func (e *evaluation) distance(i int) int {
	a := &e.roles[i].allow
	d := 0
	if !a.names.contains(e.dbname) {
		d++
	}
	if !e.provisions() && !a.users.contains(e.q.DatabaseUser) {
		d++
	}
	switch {
	case e.selected[i]:
		return d
	case e.failed[i] != nil:
		return d + 1000
	case a.selector.isZero() && a.expr == nil:
		return 0
	case a.selector.isZero() || a.selector.Match(e.labels):
		return d + 10 // it is the expression
	}
	return d + 10*max(a.selector.countMisses(e.labels), 1)
}

// describeMiss says what a role lacked.
func (e *evaluation) describeMiss(i int) (Rule, string) {
	r := e.roles[i]
	a := &r.allow
	switch {
	case e.failed[i] != nil:
		return RuleLabels, fmt.Sprintf("role %s is disabled here because it is broken: %v", r.name, e.failed[i])
	case !e.selected[i] && !a.selector.isZero() && !a.selector.Match(e.labels):
		return RuleLabels, fmt.Sprintf("role %s allows databases %s; this one %s", r.name, &a.selector, a.selector.miss(e.labels))
	case !e.selected[i]:
		return RuleLabels, fmt.Sprintf("role %s allows databases for which %s; this one is not", r.name, oneLine(a.expr.String()))
	case !a.names.contains(e.dbname):
		return RuleNames, fmt.Sprintf("role %s allows the database names %s; not %s", r.name, &a.names, e.dbname)
	}
	return RuleUsers, fmt.Sprintf("role %s allows the database users %s; not %s", r.name, &a.users, e.q.DatabaseUser)
}
