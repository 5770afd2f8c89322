package provision

import (
	"fmt"
	"slices"
	"strings"
)

// What repairs a deviation without anybody's doing.
const (
	repairSweep   = "the sweep of an agent, within its interval"
	repairConnect = "the user's next connect, or the end of the last session"
)

// driftOfAccount compares an account with the state that policy allows it: released, or
// in use with no more than policy gives.
func (s *Server) driftOfAccount(have state, survey Survey) []Deviation {
	acc := have.Account
	entitled, known := survey.of(acc.Name)
	inUse := len(acc.Sessions) > 0 || s.accounts.leased(acc.Name)
	want := target{user: acc.Name, after: afterwards(acc.Comment)}
	repair := repairSweep
	if inUse {
		want, repair = s.allowed(&have, want, entitled), repairConnect
	}
	steps, over := plan(have, want)
	var all []Deviation
	for _, step := range steps {
		if step.action != comment { // which is only the lock
			d := deviation(have, want, step)
			d.Repair = repair
			if step.action == grant { // a superuser's grant would be out of the admin's reach
				d.SQL = s.byEither([]string{step.String()})
			}
			all = append(all, d)
		}
	}
	all = append(all, over.deviations(have, want)...)
	if !known && !inUse {
		all = append(all, Deviation{
			Role: acc.Name, Check: "orphan", Problem: "belongs to no user of this cluster",
			Matters: "nobody can come for it; what it owns has no owner to ask. Another cluster on this server may have made it",
			SQL:     []string{statement{action: drop, user: acc.Name}.String() + ";"},
		})
	}
	return all
}

// of returns what policy gives the user that an account is for. Siblings get what
// their user gets.
func (s Survey) of(account string) (Entitlement, bool) {
	for _, e := range s.Entitlements {
		if e.User == account || isSibling(account, e.User) {
			return e, true
		}
	}
	return Entitlement{}, false
}

// isSibling reports whether an account has the name of a sibling of a user's.
func isSibling(account, user string) bool {
	suffix := siblingName.FindString(account)
	return suffix != "" && withSuffix(user, suffix) == account
}

// allowed returns what an account with sessions may be: it holds what sessions here need and
// policy gives, and where other agents have sessions too, whatever of policy's
// rights it holds. Memberships in bundles that policy makes are taken out of have, as each session has its own.
func (s *Server) allowed(have *state, want target, entitled Entitlement) target {
	held := have.Account.Memberships
	have.Account.Memberships = slices.DeleteFunc(slices.Clone(held), func(m membership) bool {
		return m.Bundle && m.passive(have.Version) && slices.ContainsFunc(entitled.Policies, func(key string) bool {
			return strings.HasSuffix(m.Role, bundleName("-", key))
		})
	})
	want.login = true
	want.replication = entitled.Replication && have.Account.Attributes.Replication
	want.roles = slices.Clone(s.cfg.ExtraRoles)
	roles, all := s.accounts.needed(want.user, have.Account.Sessions)
	for _, m := range held {
		if !all {
			roles = append(roles, m.Role)
		}
	}
	for _, role := range roles {
		if slices.Contains(entitled.Roles, role) {
			want.roles = append(want.roles, role)
		}
	}
	slices.Sort(want.roles)
	want.roles = slices.Compact(want.roles)
	return want
}

// deviation describes the difference that a step ends.
func deviation(have state, want target, step statement) Deviation {
	d := Deviation{Role: step.user, Problem: why(have, want, step), SQL: []string{step.String() + ";"}}
	switch {
	case slices.Contains(step.words, loginWord(false)):
		d.Check, d.Matters = "login", "whoever can authenticate as it gets in past the gateway"
	case slices.Contains(step.words, loginWord(true)):
		d.Check, d.Matters = "login", "new logins to it are refused, although it is in use"
	case step.action == alter:
		d.Check, d.Matters = "attributes", "its sessions can do more than policy says, or fail"
	case step.action == reset:
		d.Check, d.Matters = "settings", "they change what the user's statements do, in every session"
	case step.action == disown:
		d.Check, d.Matters = "member", fmt.Sprintf("%q can do whatever policy gives this user", step.role)
	case step.action == revoke:
		d.Check, d.Matters = "membership", "its sessions can do more than policy says"
		d.Problem = fmt.Sprintf("holds the role %q: %s", step.role, d.Problem)
	case step.action == grant:
		d.Check, d.Matters = "membership", "its sessions can do less than policy says"
		d.Problem = fmt.Sprintf("lacks the role %q, which its sessions were given", step.role)
	}
	return d
}

// deviations describes what the admin cannot repair.
func (b beyond) deviations(have state, want target) []Deviation {
	var all []Deviation
	add := func(step statement) { all = append(all, deviation(have, want, step)) }
	if len(b.powers) > 0 {
		add(statement{action: alter, user: want.user, words: b.powers})
	}
	for _, m := range b.memberships {
		add(statement{action: revoke, user: want.user, role: m.Role, grantor: m.Grantor})
	}
	for _, h := range b.heirs {
		add(statement{action: disown, user: want.user, role: h.Role, grantor: h.Grantor})
	}
	for _, s := range b.settings {
		add(statement{action: reset, user: want.user, database: s.Database})
		all[len(all)-1].Problem = "somebody set a default of a parameter that only superusers set: " + s.Text
	}
	return all
}
