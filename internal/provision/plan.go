package provision

import (
	"cmp"
	"slices"
	"strings"
)

// The comments of accounts about which there is something to know. A session that
// has chosen its roles (see Want.Chosen) keeps others from changing them.
const (
	dropMarker       = "Managed by Postern; dropped after its last session."
	chosenMarker     = "Managed by Postern; in use with chosen roles."
	dropChosenMarker = "Managed by Postern; in use with chosen roles, dropped after its last session."
)

// dropped reports whether the account is dropped after its last session.
func (a account) dropped() bool { return a.Comment == dropMarker || a.Comment == dropChosenMarker }

// chosen reports whether a session on the account has chosen its roles.
func (a account) chosen() bool { return a.Comment == chosenMarker || a.Comment == dropChosenMarker }

// version16 is the server_version_num from which a membership has options and one row per
// grantor, and from which CREATEROLE alone does not allow to change a role.
const version16 = 160000

// plan returns the statements that lead from have to want, and the memberships
// that are too much but which the admin may not revoke. It is empty when nothing
// differs. It is pure, and blind to what the admin may do: see [check].
//
// An account that exists is locked by the first statement. Memberships are
// written in the order of the roles' names, because since version 16 each takes
// a lock on the role, and two plans must take them in the same order.
func plan(have state, want target) (steps []statement, stuck []membership) {
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
		members, _ := planMemberships(have, want)
		return append(steps, members...), nil
	}
	change := statement{action: alter, user: want.user, words: attributeWords(have.changeable(want), want)}
	change.key, change.until = planKey(have, want)
	if len(change.words) > 0 || change.until != "" {
		steps = append(steps, change)
	}
	if !want.keepRoles {
		for _, heir := range slices.Sorted(slices.Values(acc.Heirs)) {
			steps = append(steps, statement{action: disown, user: want.user, role: heir})
		}
	}
	members, stuck := planMemberships(have, want)
	steps = append(steps, members...)
	lock := lockOf(acc, want)
	if len(steps) == 0 && lock.text == acc.Comment {
		return nil, stuck
	}
	return slices.Insert(steps, 0, lock), stuck
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
	case want.drop && chosen:
		return dropChosenMarker
	case want.drop:
		return dropMarker
	case chosen:
		return chosenMarker
	case acc.dropped() || acc.chosen():
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

// changeable returns the account without an attribute that the admin may not take
// away (any more). That must not keep the account from losing its login, without
// which nobody replicates; allowing login again is refused, see [Server.checkReplication].
func (have state) changeable(want target) account {
	acc := have.Account
	if !want.login && have.Version >= version16 && !have.Admin.Superuser && !have.Admin.Replication {
		acc.Attributes.Replication = false
	}
	return acc
}

// attributeWords returns what to tell ALTER ROLE: login as wanted, no powers but
// the wanted one, and inheritance, without which roles are held but of no use.
func attributeWords(acc account, want target) []string {
	var words []string
	if acc.Login != want.login {
		words = append(words, loginWord(want.login))
	}
	if want.key.mark == 0 && (acc.Login != want.login || want.erase && acc.Password.Dated) {
		// A person can give the own account a password. It must not open another door.
		words = append(words, "PASSWORD NULL")
		if acc.Password.Dated {
			words = append(words, "VALID UNTIL '-infinity'")
		}
	}
	for _, power := range []struct {
		differs bool
		word    string
	}{
		{acc.Attributes.Superuser, "NOSUPERUSER"},
		{acc.Attributes.CreateRole, "NOCREATEROLE"},
		{acc.Attributes.CreateDB, "NOCREATEDB"},
		{acc.Attributes.Replication && !want.replication, "NO" + replicationWord},
		{!acc.Attributes.Replication && want.replication, replicationWord},
		{acc.Attributes.BypassRLS, "NOBYPASSRLS"},
		{!acc.Inherit, "INHERIT"},
	} {
		if power.differs {
			words = append(words, power.word)
		}
	}
	return words
}

// planMemberships makes the account hold exactly the roles wanted, each once or
// more often plainly: without ADMIN OPTION, inherited, and usable with SET ROLE
// unless it is a bundle. Bundles of other places stay while the account is in use.
func planMemberships(have state, want target) (steps []statement, stuck []membership) {
	if want.keepRoles {
		return nil, nil
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
			stuck = append(stuck, m)
		default:
			if have.Version < version16 {
				m.Grantor = "" // there is one row for a role, whoever wrote it
			}
			steps = append(steps, statement{action: revoke, user: want.user, role: m.Role, held: m})
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
		return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.action, b.action), cmp.Compare(a.held.Grantor, b.held.Grantor))
	})
	return steps, stuck
}
