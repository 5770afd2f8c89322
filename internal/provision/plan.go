package provision

import (
	"cmp"
	"slices"
	"strings"
)

// The comments of accounts about which there is something to know. A session that
// has chosen its roles (see Want.Chosen) keeps others from changing them.
const (
	dropMarker           = "Managed by Postern; dropped after its last session."
	reassignMarker       = "Managed by Postern; gives away what it owns and is dropped after its last session."
	chosenMarker         = "Managed by Postern; in use with chosen roles."
	dropChosenMarker     = "Managed by Postern; in use with chosen roles, dropped after its last session."
	reassignChosenMarker = "Managed by Postern; in use with chosen roles, gives away what it owns and is dropped after its last session."
)

// afterwards returns what a comment says will become of the account after its last session.
func afterwards(comment string) Mode {
	switch comment {
	case dropMarker, dropChosenMarker:
		return Drop
	case reassignMarker, reassignChosenMarker:
		return Reassign
	}
	return Keep
}

// chosen reports whether a session on the account has chosen its roles.
func (a account) chosen() bool {
	return a.Comment == chosenMarker || a.Comment == dropChosenMarker || a.Comment == reassignChosenMarker
}

// version16 is the server_version_num from which a membership has options and one row per
// grantor, and from which CREATEROLE alone does not allow to change a role.
const version16 = 160000

// plan returns the statements that lead from have to want, and what is too much but
// out of the admin's reach. It is empty when nothing differs. It is pure. Whether
// the admin may give what is wanted is not its concern: see [check].
//
// An account that exists is locked by the first statement. Memberships are
// written in the order of the roles' names, because since version 16 each takes
// a lock on the role, and two plans must take them in the same order.
func plan(have state, want target) (steps []statement, over beyond) {
	acc := have.Account
	if !acc.exists() {
		if !have.Group.Exists {
			steps = append(steps, statement{action: createGroup})
		}
		create := statement{action: createAccount, user: want.user, words: creationWords(want)}
		create.key, create.until = planKey(have, want)
		steps = append(steps, create)
		if note := noteOf(acc, want); note != "" {
			steps = append(steps, statement{action: comment, user: want.user, text: note})
		}
		return append(steps, planMemberships(have, want, &over)...), over
	}
	change := statement{action: alter, user: want.user, words: attributeWords(have, want, &over)}
	change.key, change.until = planKey(have, want)
	if len(change.words) > 0 || change.until != "" {
		steps = append(steps, change)
	}
	steps = append(steps, planSettings(acc, want, &over)...)
	if !want.keepRoles {
		steps = append(steps, planHeirs(have, want, &over)...)
	}
	steps = append(steps, planMemberships(have, want, &over)...)
	lock := lockOf(acc, want)
	if len(steps) == 0 && lock.text == acc.Comment {
		return nil, over
	}
	return slices.Insert(steps, 0, lock), over
}

// lockOf returns the statement that takes the account's lock: the comment is written.
func lockOf(acc account, want target) statement {
	return statement{action: comment, user: want.user, text: noteOf(acc, want)}
}

// noteOf returns the comment that the account is to have: what there is to know
// about it, else what is there unless that is ours. That roles were chosen is known
// until they are taken away.
func noteOf(acc account, want target) string {
	chosen := want.chosen || acc.chosen() && (want.keepRoles || want.login && acc.Login)
	switch {
	case want.after == Reassign && chosen:
		return reassignChosenMarker
	case want.after == Reassign:
		return reassignMarker
	case want.after == Drop && chosen:
		return dropChosenMarker
	case want.after == Drop:
		return dropMarker
	case chosen:
		return chosenMarker
	case afterwards(acc.Comment) != Keep || acc.chosen():
		return ""
	}
	return acc.Comment
}

func loginWord(login bool) string {
	if login {
		return "LOGIN"
	}
	return "NOLOGIN"
}

// creationWords returns what to tell CREATE ROLE.
func creationWords(want target) []string {
	words := []string{loginWord(want.login)}
	if want.replication {
		words = append(words, replicationWord)
	}
	return words
}

// replicationWord gives an account the one power that policy can ask for.
const replicationWord = "REPLICATION"

// attributeWords returns what to tell ALTER ROLE: login as wanted, no powers but the
// wanted one and no limits of its own, and inheritance, without which roles are held
// but of no use.
func attributeWords(have state, want target, over *beyond) []string {
	acc := have.Account
	var words []string
	if acc.Login != want.login {
		words = append(words, loginWord(want.login))
	}
	stale := acc.Password.Dated && !acc.Password.Open // by hand, or of an agent that has died
	if want.key.mark == 0 && (acc.Login != want.login || want.erase && acc.Password.Dated || stale) {
		// A person can give the own account a password. It must not open another door.
		words = append(words, "PASSWORD NULL")
		if acc.Password.Dated {
			words = append(words, "VALID UNTIL '-infinity'")
		}
	}
	sealed := have.sealed(want)
	for _, power := range []struct {
		held, reach bool
		word        string
	}{
		{acc.Attributes.Superuser, false, "NOSUPERUSER"},
		{acc.Attributes.CreateRole, true, "NOCREATEROLE"},
		{acc.Attributes.CreateDB, have.Version < version16 || have.Admin.CreateDB, "NOCREATEDB"},
		{acc.Attributes.Replication && !want.replication, have.Version >= version16 && have.Admin.Replication, "NO" + replicationWord},
		{acc.Attributes.BypassRLS, have.Version >= version16 && have.Admin.BypassRLS, "NOBYPASSRLS"},
	} {
		switch {
		case !power.held:
		case sealed || !power.reach && !have.Admin.Superuser:
			over.powers = append(over.powers, power.word)
		default:
			words = append(words, power.word)
		}
	}
	if want.replication && !acc.Attributes.Replication {
		words = append(words, replicationWord)
	}
	if !acc.Inherit {
		words = append(words, "INHERIT")
	}
	if acc.ConnLimit != unlimited {
		words = append(words, "CONNECTION LIMIT -1")
	}
	if sealed {
		return nil
	}
	return words
}

// unlimited is the connection limit of a role without one.
const unlimited = -1

// sealed reports whether the account has a power because of which the admin may not
// alter it at all, not even to disable it.
func (s state) sealed(want target) bool {
	held := s.Account.Attributes
	return !s.Admin.Superuser && (held.Superuser || held.Replication && !want.replication && s.Version < version16)
}

// planSettings takes away the defaults of parameters. RESET ALL leaves those alone
// that the admin may not set.
func planSettings(acc account, want target, over *beyond) (steps []statement) {
	var databases []string
	for _, s := range acc.Settings {
		if s.Revocable {
			databases = append(databases, s.Database)
		} else {
			over.settings = append(over.settings, s)
		}
	}
	slices.Sort(databases)
	for _, database := range slices.Compact(databases) {
		steps = append(steps, statement{action: reset, user: want.user, database: database})
	}
	return steps
}

// planHeirs takes the account's rights from others.
func planHeirs(have state, want target, over *beyond) (steps []statement) {
	heirs := slices.SortedFunc(slices.Values(have.Account.Heirs), func(a, b heir) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Grantor, b.Grantor))
	})
	for _, h := range heirs {
		if !h.Revocable {
			over.heirs = append(over.heirs, h)
			continue
		}
		if have.Version < version16 {
			h.Grantor = ""
		}
		steps = append(steps, statement{action: disown, user: want.user, role: h.Role, grantor: h.Grantor})
	}
	return steps
}

// planMemberships makes the account hold exactly the roles wanted, each once or
// more often plainly: without ADMIN OPTION, inherited, and usable with SET ROLE
// unless it is a bundle. Bundles of other places stay while the account is in use.
func planMemberships(have state, want target, over *beyond) (steps []statement) {
	if want.keepRoles {
		return nil
	}
	held := map[string]bool{}
	for _, m := range have.Account.Memberships {
		wanted := slices.Contains(want.roles, m.Role)
		switch {
		case wanted && m.Role != want.bundle && m.plain(), wanted && m.Role == want.bundle && m.passive(have.Version):
			held[m.Role] = true
		case want.login && isBundle(m) && !strings.HasPrefix(m.Role, want.place) && m.passive(have.Version):
			continue
		case !m.Revocable:
			over.memberships = append(over.memberships, m)
		default:
			if have.Version < version16 {
				m.Grantor = "" // there is one row for a role, whoever wrote it
			}
			steps = append(steps, statement{action: revoke, user: want.user, role: m.Role, grantor: m.Grantor})
		}
	}
	for _, role := range want.roles {
		options := implied
		if have.Version >= version16 {
			options = explicit
			if role == want.bundle {
				options = passive
			}
		}
		if !held[role] {
			steps = append(steps, statement{action: grant, user: want.user, role: role, options: options})
		}
	}
	slices.SortStableFunc(steps, func(a, b statement) int {
		return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.action, b.action), cmp.Compare(a.grantor, b.grantor))
	})
	return steps
}
