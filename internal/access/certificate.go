package access

import (
	"fmt"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// CertificateScope returns the database users and names that a certificate of a
// lifetime may be issued for, over all databases. Only roles whose max_session_ttl
// is at least the lifetime count. "*" alone means any, less what is denied at
// connect. When no role allows the lifetime the error is Denied, and when nothing
// is left after the deny lists it is NotFound.
func (b *Bound) CertificateScope(lifetime time.Duration) (users, names []string, err error) {
	if b.refusal != nil {
		return nil, nil, denied(b.refusal.Text)
	}
	e := evaluation{Bound: b, selected: make([]bool, len(b.roles))}
	for i := range b.roles {
		r := b.roles[i]
		if r.deny.broken != nil {
			return nil, nil, denied(fmt.Sprintf("what role %s denies cannot be evaluated: %v", r.name, r.deny.broken))
		}
		e.selected[i] = maxSessionTTL(&r.options) >= lifetime
	}
	if !slices.Contains(e.selected, true) {
		return nil, nil, fault.Newf(fault.Denied, "access denied: no role allows a certificate of %s", resource.Duration(lifetime)).
			WithHint("ask for a shorter one")
	}
	users, _ = e.enumerate(userList)
	names, _ = e.enumerate(nameList)
	if len(users) == 0 && len(names) == 0 {
		return nil, nil, fault.New(fault.NotFound, "no database users and names are allowed for this user").
			WithHint("ask an administrator for a role with db_users and db_names")
	}
	return users, names, nil
}
