package access

import (
	"fmt"
	"slices"
)

// Bound is a policy applied to one user: roles found, templates replaced. Decisions
// about many databases share it. It is immutable and safe for concurrent use, and
// it does not see changes of the user.
type Bound struct {
	policy  *Policy
	user    string // as known in this cluster
	remote  bool
	traits  map[string][]string
	roles   []*boundRole // in the order of their names, each once
	refusal *Reason      // set when nothing can be allowed
	limits  limited

	denyingRoles []*boundRole // those whose deny.db_roles apply wherever they do not refuse
}

// boundRole is a role as it is for one user.
type boundRole struct {
	*compiledRole
	allow boundConditions
	deny  *boundConditions // shared between users when it has no templates
}

// boundConditions is one side of a role for one user.
type boundConditions struct {
	*compiledConditions
	selector              Selector // zero when there is none
	broken                error    // why this side cannot be evaluated
	names, users, dbRoles names
}

// Bind applies the policy to the user of a request: User, RemoteCluster, Roles and
// Traits. The database fields are not looked at.
func (p *Policy) Bind(q Request) *Bound {
	b := &Bound{policy: p, user: LocalName(q.User, q.RemoteCluster), remote: q.RemoteCluster != "", traits: q.Traits}
	ranks := make([]int, 0, len(q.Roles)) // numbers sort much faster than what they stand for
	for _, name := range q.Roles {
		role, found := p.roles[name]
		switch {
		case found:
			ranks = append(ranks, role.rank)
		case name == implicitRole:
		case b.refusal == nil || name < b.refusal.Role: // report the first by name, whatever the order
			b.refusal = &Reason{
				Effect: EffectDeny, Rule: RuleRoles, Role: name,
				Text: fmt.Sprintf("role %s of this user does not exist, and what it would deny is not known", name),
			}
		}
	}
	slices.Sort(ranks)
	ranks = slices.Compact(ranks)
	b.roles = make([]*boundRole, len(ranks))
	for i, rank := range ranks {
		if role := p.ordered[rank]; role.static != nil {
			b.roles[i] = role.static
		} else {
			b.roles[i] = role.bind(q.Traits)
		}
	}
	b.limits = p.settings.limits(b.roles)
	for _, r := range b.roles {
		if len(r.deny.dbRoles.values) > 0 && !r.deny.hasLabels() {
			b.denyingRoles = append(b.denyingRoles, r)
		}
	}
	return b
}

// bind replaces the templates of a role.
func (r *compiledRole) bind(traits map[string][]string) *boundRole {
	deny := r.staticDeny
	if deny == nil {
		d := r.deny.bind(traits, true)
		deny = &d
	}
	return &boundRole{compiledRole: r, allow: r.allow.bind(traits, false), deny: deny}
}

// bind replaces the templates of one side. On the allow side an entry that fails
// is skipped; on the deny side it breaks the whole side, which then refuses.
func (c *compiledConditions) bind(traits map[string][]string, deny bool) boundConditions {
	out := boundConditions{compiledConditions: c, selector: c.selector, broken: c.broken}
	if c.templates != nil && out.broken == nil {
		s, err := expandSelector(c.templates, traits)
		if err != nil {
			out.broken = fmt.Errorf("db_labels: %w", err)
		}
		out.selector = s
	}
	expand := func(name string, l *list) names {
		n, err := l.expand(traits)
		if err != nil && deny && out.broken == nil {
			out.broken = fmt.Errorf("%s: %w", name, err)
		}
		return n
	}
	out.names, out.users, out.dbRoles = expand("db_names", &c.names), expand("db_users", &c.users), expand("db_roles", &c.dbRoles)
	return out
}

// selects reports whether the allow side selects a database: labels and
// expression must match where present, and one must be present.
func (c *boundConditions) selects(b *Bound, labels map[string]string) (bool, error) {
	if c.broken != nil {
		return false, c.broken
	}
	if c.selector.isZero() && c.expr == nil || !c.selector.isZero() && !c.selector.Match(labels) {
		return false, nil
	}
	if c.expr == nil {
		return true, nil
	}
	return c.expr.Match(labels, b.user, b.traits)
}

// hits reports whether the deny side selects a database: either of labels and
// expression is enough.
func (c *boundConditions) hits(b *Bound, labels map[string]string) (bool, error) {
	if c.broken != nil {
		return false, c.broken
	}
	if c.selector.Match(labels) {
		return true, nil
	}
	if c.expr == nil {
		return false, nil
	}
	return c.expr.Match(labels, b.user, b.traits)
}

// LocalName returns the name under which this cluster knows a user: the own name,
// or remote-<user>-<cluster> for users of a trusted cluster. The database user has
// the same name.
func LocalName(user, remoteCluster string) string {
	if remoteCluster == "" {
		return user
	}
	return "remote-" + user + "-" + remoteCluster
}

// MaxDatabaseUserName is the longest name of a PostgreSQL role, in bytes, and of
// everything else with a name. PostgreSQL cuts longer names with no more than a
// notice.
const MaxDatabaseUserName = 63
