package provision

import (
	"context"
	"fmt"
)

// Converge changes the roles that the account holds while its sessions run: more
// roles take effect with the next statement. Taking roles away is not enough for a
// session that has used SET ROLE, which PostgreSQL lets go on: end such a session
// instead. A sibling keeps its roles, which its name stands for; Converge does
// nothing to it and reports false. Errors are those of [Server.Activate].
func (l *Lease) Converge(ctx context.Context, roles []string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted {
		return false, fmt.Errorf("converge %q: the lease has been released", l.want.user)
	}
	if l.sibling {
		return false, nil
	}
	want, err := l.s.target(Want{User: l.want.user, Roles: roles, Bundle: l.want.bundle, Mode: l.mode})
	if err != nil {
		return false, err
	}
	want.place, want.replication = l.want.place, l.want.replication
	l.s.accounts.rename(l.entry, setOf(roles, want.replication))
	if _, err := l.s.activate(ctx, l.entry, l.database, want); err != nil {
		return false, err
	}
	l.want = want
	return true, nil
}

// rename notes that the sessions of an account now need other roles.
func (a *accounts) rename(e *entry, set string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.set = set
}
