package provision

import (
	"fmt"
	"slices"
	"strings"
)

// why says for what reason a plan that leads from have to want has a step.
func why(have state, want target, step statement) string {
	switch step.action {
	case createGroup:
		return "managed database users are the members of this role, and it does not exist"
	case createAccount:
		return "the database user does not exist"
	case comment:
		return whyComment(have.Account, want)
	case alter:
		return whyAlter(have.Account, step.words)
	case reset:
		return "somebody set defaults of parameters: " + strings.Join(have.Account.settingsFor(step.database), ", ")
	case disown:
		return fmt.Sprintf("%q was given the rights of this database user", step.role)
	case revoke:
		return whyRevoke(have, want, step)
	case grant:
		return "policy gives it and the database user does not hold it"
	case drop:
		return "the database user goes after its last session"
	case bequeath:
		return "what the database user owns is kept by " + Inheritor
	}
	return ""
}

func whyComment(acc account, want target) string {
	switch noteOf(acc, want) {
	case acc.Comment:
		return "takes the lock of the database user; the comment stays as it is"
	case "":
		return "the database user is to be kept after its last session, with the roles that policy says"
	}
	return "says what becomes of the database user"
}

// whyAlter explains the words of ALTER ROLE.
func whyAlter(acc account, words []string) string {
	var reasons []string
	for _, word := range words {
		switch word {
		case "LOGIN":
			reasons = append(reasons, "a session is to log in")
		case "NOLOGIN":
			reasons = append(reasons, "it has no session and can log in")
		case "PASSWORD NULL": // goes with either
		case "INHERIT":
			reasons = append(reasons, "without INHERIT its roles are of no use")
		case "CONNECTION LIMIT -1":
			reasons = append(reasons, fmt.Sprintf("somebody set its connection limit to %d", acc.ConnLimit))
		case "VALID UNTIL '-infinity'":
			reasons = append(reasons, "a password that somebody set, or left behind, opens no door")
		default:
			reasons = append(reasons, "somebody gave it "+strings.TrimPrefix(word, "NO")+", which no database user has")
		}
	}
	return strings.Join(reasons, "; ")
}

func whyRevoke(have state, want target, step statement) string {
	if !slices.Contains(want.roles, step.role) {
		if want.login {
			return "policy does not give it"
		}
		return "a database user without a session holds no roles"
	}
	for _, m := range have.Account.Memberships {
		if m.Role == step.role && (step.grantor == "" || m.Grantor == step.grantor) && m.Admin {
			return "it was given WITH ADMIN OPTION, with which the user could hand it on"
		}
	}
	return "it was given with other options than policy gives it with"
}

// settingsFor returns the settings for a logical database that the admin can reset.
func (a account) settingsFor(database string) []string {
	var texts []string
	for _, s := range a.Settings {
		if s.Database == database && s.Revocable {
			texts = append(texts, s.Text)
		}
	}
	return texts
}
