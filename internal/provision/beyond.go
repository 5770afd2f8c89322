package provision

import (
	"fmt"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// beyond is what an account has that policy does not give it and that the admin may
// not take away: somebody mightier gave it.
type beyond struct {
	memberships []membership
	powers      []string // what ALTER ROLE would have to say
	settings    []setting
	heirs       []heir
}

// rights reports whether the account can do more than policy says. Settings are no
// rights, and what others may do is not the session's fault.
func (b beyond) rights() bool { return len(b.memberships)+len(b.powers) > 0 }

// sql returns the statements with which a superuser takes away the rights.
func (b beyond) sql(user string) []string {
	var sql []string
	if len(b.powers) > 0 {
		sql = append(sql, statement{action: alter, user: user, words: b.powers}.String()+";")
	}
	for _, m := range b.memberships {
		sql = append(sql, statement{action: revoke, user: user, role: m.Role, grantor: m.Grantor}.String()+";")
	}
	return sql
}

// fault says which rights are too many and who can end them.
func (b beyond) fault(user string) *fault.Error {
	kind, text := fault.Conflict, "user %q holds roles that policy does not give it and that the admin user may not revoke"
	if len(b.powers) > 0 {
		kind, text = fault.Denied, "user %q has attributes that policy does not give it and that the admin user may not take away"
	}
	return refusal(kind, codeInsufficientRights, fmt.Sprintf(text, user)).
		WithHint("run as superuser: " + strings.Join(b.sql(user), " "))
}
