package access

import (
	"cmp"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// Answer is what one user can do on a database.
type Answer struct {
	User          string   `json:"user"`
	Outcome       Outcome  `json:"outcome"` // allowed, or mfa_required
	Mode          string   `json:"mode"`
	DatabaseUsers []string `json:"db_users"` // "*" for any
	DatabaseNames []string `json:"db_names"` // "*" for any
	DatabaseRoles []string `json:"db_roles"`
	Reasons       []Reason `json:"reasons"`
}

// WhoCan returns the users who can connect to the database of q, sorted by name.
// An empty DatabaseName or DatabaseUser in q means any; the user fields of q are
// not looked at.
func WhoCan(p *Policy, users []*resource.User, q Request) []Answer {
	answers := []Answer{}
	for _, u := range users {
		who := q
		who.User, who.Roles, who.Traits, who.RemoteCluster = u.GetName(), u.Spec.Roles, u.Spec.Traits, ""
		b := p.Bind(who)
		d := b.Explain(who)
		if d.Outcome == Denied {
			continue
		}
		o := b.Overview(q.Database, q.Labels)
		a := Answer{
			User: u.GetName(), Outcome: d.Outcome, Mode: o.Mode.String(), Reasons: d.Reasons,
			DatabaseUsers: append([]string{}, o.AllowedUsers...), DatabaseNames: append([]string{}, o.AllowedNames...),
			DatabaseRoles: append([]string{}, o.DatabaseRoles...),
		}
		if q.DatabaseUser != "" {
			a.DatabaseUsers = []string{q.DatabaseUser}
		}
		if q.DatabaseName != "" {
			a.DatabaseNames = []string{q.DatabaseName}
		}
		answers = append(answers, a)
	}
	slices.SortFunc(answers, func(x, y Answer) int { return strings.Compare(x.User, y.User) })
	return answers
}

// Explain is [Bound.Explain] for one request.
func (p *Policy) Explain(q Request) Decision { return p.Bind(q).Explain(q) }

// Explain is [Bound.Decide] for questions that leave the database user or name
// open: it finds values with which the user gets in, if there are any.
func (b *Bound) Explain(q Request) Decision {
	tries := b.attempts(q)
	best := b.Decide(tries[0])
	for _, try := range tries[1:] {
		if best.Outcome == Allowed {
			break
		}
		if d := b.Decide(try); d.Outcome != Denied {
			best = d
		}
	}
	return best
}

// attempts lists the requests that are worth trying for q, at least one. Labels,
// name and user must match within one role, so one pair per role will do, chosen
// among what no role denies.
func (b *Bound) attempts(q Request) []Request {
	var out []Request
	add := func(user, name string) {
		try := q
		try.DatabaseUser = cmp.Or(q.DatabaseUser, user)
		try.DatabaseName = cmp.Or(q.DatabaseName, name)
		out = append(out, try)
	}
	if q.DatabaseUser == "" || q.DatabaseName == "" {
		labels := q.Labels
		if labels == nil {
			labels = q.Database.Metadata.Labels
		}
		for i := range b.roles {
			a := &b.roles[i].allow
			if selected, err := a.selects(b, labels); err != nil || !selected {
				continue
			}
			name := b.permitted(a, nameList)
			add(b.user, name) // with provisioning, the only user there is
			add(b.permitted(a, userList), name)
		}
	}
	if len(out) == 0 {
		add(b.user, anyValue)
	}
	return out
}

// anyValue stands for the wildcard where some value must be tried.
const anyValue = "postgres"

// permitted returns a value that a role allows and no role denies, or else one
// that will be refused.
func (b *Bound) permitted(a *boundConditions, of func(*boundConditions) *names) string {
	isDenied := func(v string) bool {
		return slices.ContainsFunc(b.roles, func(r *boundRole) bool { return slices.Contains(of(r.deny).values, v) })
	}
	for _, v := range of(a).values {
		if v != "*" && !isDenied(v) {
			return v
		}
	}
	value := anyValue
	for of(a).any && isDenied(value) {
		value += "_"
	}
	return value
}

func nameList(c *boundConditions) *names { return &c.names }
func userList(c *boundConditions) *names { return &c.users }
