package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// An account has one set of roles at a time, whichever processes have sessions on
// it. Nobody changes the set of an account that a session of another process may
// be using; see docs/decisions/0012-one-set-of-roles.md.

// inUseError stops an activation: sessions of other processes use the account with other roles.
type inUseError struct {
	pids []uint32 // theirs; none while they are still logging in
}

func (e *inUseError) Error() string { return "the account is in use with other roles" }

// errAbandoned stops an activation: nobody is seen to use the account, which is
// active with other roles, or was a moment ago. It must be taken over.
var errAbandoned = errors.New("the account is active with other roles")

// errChosen stops a change of roles for the sake of sessions that chose theirs.
var errChosen = errors.New("a session has chosen the roles of the account")

// otherRoles reports whether the account holds other roles than wanted, or may
// replicate and should not, or the other way round. Bundles do not count: they are
// replaced while sessions run.
func (a account) otherRoles(want target) bool {
	if a.Attributes.Replication != want.replication {
		return true
	}
	held := map[string]bool{}
	for _, m := range a.Memberships {
		if !isBundle(m) {
			held[m.Role] = true
		}
	}
	wanted := 0
	for _, role := range want.roles {
		if role == want.bundle {
			continue
		}
		if wanted++; !held[role] {
			return true
		}
	}
	return len(held) != wanted
}

func isBundle(m membership) bool { return m.Bundle && strings.HasPrefix(m.Role, bundlePrefix) }

// mayChange reports whether the account, as it was observed, may be led to what is
// wanted: nil, an [inUseError], or errAbandoned. again says that it had been.
func (s *Server) mayChange(e *entry, have state, want target, again bool) error {
	acc := have.Account
	if !acc.exists() || !acc.Managed || want.sibling {
		return nil // the name of a sibling stands for its roles
	}
	if want.chosen && acc.Login && !acc.chosen() && (len(s.accounts.strangers(e, acc.Sessions)) > 0 || s.accounts.holds(e, acc.Sessions)) {
		return &inUseError{acc.Sessions} // by sessions that may be given more: what was chosen is noted before they begin
	}
	if !acc.otherRoles(want) {
		return nil
	}
	if pids := s.accounts.strangers(e, acc.Sessions); len(pids) > 0 {
		return &inUseError{pids}
	}
	switch {
	case s.accounts.holds(e, acc.Sessions):
		return nil // it is drift: nobody else gives the account other roles
	case acc.Login && again:
		return &inUseError{} // by who has just taken it; to take it back would go on for ever
	case acc.Login, len(acc.Memberships) > 0, acc.chosen() && !want.chosen: // the note may be the one just written
		return errAbandoned
	}
	return nil // it was released
}

// takeOver leads an account that is active with other roles, as after a crash, to
// what the lease wants. It is a release and an activation in one: login is
// disabled first, and the logins under way are awaited. Where a session turns up,
// login is allowed again. Afterwards the account is to be looked at once more.
func (s *Server) takeOver(ctx context.Context, l *Lease, want target) (done []statement, err error) {
	err = l.entry.exclusively(ctx, func() error {
		s.accounts.changed(l.entry)
		return s.withConn(ctx, l.database, func(conn *pgconn.PgConn) error {
			have, err := observe(ctx, conn, want.user, want.roles)
			if err != nil {
				return err
			}
			if err := s.mayChange(l.entry, have, want, l.again); !errors.Is(err, errAbandoned) {
				return err
			}
			done, err = s.replace(ctx, conn, l, want, have)
			return err
		})
	})
	return done, err
}

// replace gives an account without sessions other roles.
func (s *Server) replace(ctx context.Context, conn *pgconn.PgConn, l *Lease, want target, have state) ([]statement, error) {
	as := func(login bool) target {
		return target{
			user: want.user, login: login, replication: login && have.Account.Attributes.Replication,
			keepRoles: true, after: afterwards(have.Account.Comment),
		}
	}
	strangers := func(now state) error {
		if pids := s.accounts.strangers(l.entry, now.Account.Sessions); len(pids) > 0 {
			return &inUseError{pids}
		}
		return nil
	}
	off := &transaction{s: s, conn: conn, want: as(false), durable: true, guard: strangers}
	if have.Account.Login {
		if err := off.run(ctx, have); err != nil {
			return nil, err
		}
	}
	on := &transaction{s: s, conn: conn, want: want, settle: true}
	on.guard = func(now state) error {
		switch {
		case !now.Account.otherRoles(want):
			return nil
		case now.Account.Login:
			return errMoved
		}
		return strangers(now)
	}
	err := on.run(ctx, have)
	_, slippedIn := errors.AsType[*inUseError](err)
	switch {
	case errors.Is(err, errMoved):
		return off.committed, nil // somebody has activated it meanwhile
	case !slippedIn:
		return append(off.committed, on.committed...), err
	}
	// Whoever allows login is answerable for it: the account is looked at again.
	return nil, (&transaction{s: s, conn: conn, want: as(true), durable: true}).run(ctx, have)
}

// errMoved stops a transaction whose account is not what it was.
var errMoved = errors.New("the account has been activated meanwhile")

// conflict refuses a session that cannot have an account of its own.
func conflict(user string, inTheWay []uint32) error {
	f := fault.Newf(fault.Conflict, "roles for user %q have changed or differ from those of sessions that are open", user).
		WithHint("Quit all active connections and try again, or ask for the same db roles.")
	if len(inTheWay) == 0 {
		return f
	}
	return f.WithDetail(fmt.Sprintf("Sessions in the way (process ids): %s.", strings.Trim(fmt.Sprint(inTheWay), "[]")))
}
