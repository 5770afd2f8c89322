package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Converge changes what the account holds while its sessions run: db roles, and the
// bundle of the session's database ("" for none). More takes effect with the next
// statement. Less does too, but not for everybody: see [Lease.Lingers], and
// end a session that loses a db role, as after a SET ROLE PostgreSQL lets it go on
// with that. A sibling keeps its roles, which its name stands for, and so does an
// account on which a session, of whatever agent, has chosen its roles: then
// Converge changes the bundle only and reports false. Errors are those of
// [Server.Activate].
func (l *Lease) Converge(ctx context.Context, roles []string, bundle string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted {
		return false, fmt.Errorf("converge %q: the lease has been released", l.want.user)
	}
	next := l.wanted
	next.Roles, next.Bundle = roles, bundle
	if !l.sibling {
		if changed, err := l.convergeRoles(ctx, next); changed || err != nil {
			return changed, err
		}
	}
	next.Roles = l.wanted.Roles
	return false, l.converge(ctx, next)
}

// Strip takes a bundle from the account at once, and leaves everything else as it is. It does
// nothing when the account does not hold it.
func (l *Lease) Strip(ctx context.Context, bundle string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	want := l.want
	want.roles = slices.DeleteFunc(slices.Clone(want.roles), func(role string) bool { return role == want.bundle })
	want.bundle = ""
	_, err := l.s.activate(ctx, l, want, func(have state) error {
		if !slices.ContainsFunc(have.Account.Memberships, func(m membership) bool { return m.Role == bundle }) {
			return errStripped
		}
		if have.Account.otherRoles(want) {
			return errMoved
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStripped) {
		return err
	}
	l.wanted.Bundle, l.want = "", want
	l.s.accounts.rebundle(l.entry, l.pids, "")
	return nil
}

// errStripped stops a transaction that would take away what the account does not hold.
var errStripped = errors.New("the account does not hold the bundle")

// convergeRoles leads the account to next, unless its roles were chosen.
func (l *Lease) convergeRoles(ctx context.Context, next Want) (changed bool, err error) {
	before := setOf(l.wanted.Roles, l.wanted.Replication)
	if !l.s.accounts.rename(l.entry, setOf(next.Roles, next.Replication)) {
		return false, nil
	}
	err = l.converge(ctx, next)
	if err != nil {
		l.s.accounts.rename(l.entry, before)
	}
	if errors.Is(err, errChosen) {
		return false, nil
	}
	return err == nil, err
}

// converge leads the account to next, or returns errChosen.
func (l *Lease) converge(ctx context.Context, next Want) error {
	account := next
	if l.sibling {
		account = sibling(next)
	}
	want, err := l.s.target(account)
	if err != nil {
		return err
	}
	want.sibling = l.sibling
	_, err = l.s.activate(ctx, l, want, func(have state) error {
		if have.Account.chosen() && have.Account.otherRoles(want) {
			return errChosen
		}
		return nil
	})
	if err != nil {
		return l.s.bundleGone(next.Bundle, err)
	}
	l.wanted, l.want = next, want
	l.s.accounts.rebundle(l.entry, l.pids, next.Bundle)
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
