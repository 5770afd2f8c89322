package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Converge changes the roles that the account holds while its sessions run: more
// roles take effect with the next statement. Taking roles away is not enough for a
// session that has used SET ROLE, which PostgreSQL lets go on: end such a session
// instead. A sibling keeps its roles, which its name stands for, and so does an
// account on which a session, of whatever agent, has chosen its roles; Converge
// does nothing to it and reports false. Errors are those of [Server.Activate].
func (l *Lease) Converge(ctx context.Context, roles []string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted {
		return false, fmt.Errorf("converge %q: the lease has been released", l.want.user)
	}
	if l.sibling {
		return false, nil
	}
	next := l.wanted
	next.Roles = roles
	want, err := l.s.target(next)
	if err != nil {
		return false, err
	}
	before := setOf(l.wanted.Roles, l.wanted.Replication)
	if !l.s.accounts.rename(l.entry, setOf(roles, l.wanted.Replication)) {
		return false, nil
	}
	_, err = l.s.activate(ctx, l, want, func(have state) error {
		if have.Account.chosen() && have.Account.otherRoles(want) {
			return errChosen
		}
		return nil
	})
	if err != nil {
		l.s.accounts.rename(l.entry, before)
	}
	if errors.Is(err, errChosen) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.wanted, l.want = next, want
	return true, nil
}

// SwitchBundle gives the account another bundle of the session's database, or none,
// while its sessions run. Errors are those of [Server.Activate].
func (l *Lease) SwitchBundle(ctx context.Context, bundle string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted {
		return fmt.Errorf("switch the bundle of %q: the lease has been released", l.want.user)
	}
	next := l.wanted
	next.Bundle = bundle
	account := next
	if l.sibling {
		account = sibling(next)
	}
	want, err := l.s.target(account)
	if err != nil {
		return err
	}
	want.sibling = l.sibling
	_, err = l.s.activate(ctx, l, want, func(have state) error { return l.s.mayChange(l.entry, have, want, true) })
	if err != nil {
		return l.s.bundleGone(bundle, err)
	}
	l.wanted, l.want = next, want
	l.s.accounts.rebundle(l.entry, l.pids, bundle)
	return nil
}

// rebundle notes that backends need another bundle.
func (a *accounts) rebundle(e *entry, pids []uint32, bundle string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range e.live {
		if slices.Contains(pids, e.live[i].pid) {
			e.live[i].bundle = bundle
		}
	}
}

// rename notes that the sessions of an account now need other roles, unless one
// has chosen its own.
func (a *accounts) rename(e *entry, set string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.chosen > 0 && e.set != set {
		return false
	}
	e.set = set
	return true
}
