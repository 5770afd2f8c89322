package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// Result says what an activation did.
type Result struct {
	Created    bool     // the account did not exist
	Changed    bool     // anything was written
	Statements []string // what was written, as SQL
	Duration   time.Duration
}

// Activate makes the account of a session able to log in with exactly the roles
// wanted, and returns a lease that the caller must release, also when the login fails.
// Where sessions of the user run with other roles, the account is a sibling with a
// name of its own: see [Lease.User].
//
// Errors are faults: Invalid for names that PostgreSQL cannot hold, Conflict for
// an account that is not managed, NotFound for a role that does not exist, Denied
// where the admin lacks a right (the hint is the SQL that gives it), Unavailable
// for a server that is read-only or cannot be reached. What PostgreSQL answered is
// in the chain as *pgconn.PgError.
func (s *Server) Activate(ctx context.Context, w Want) (*Lease, error) {
	if err := s.frozen(); err != nil {
		return nil, err
	}
	if siblingName.MatchString(w.User) {
		return nil, fault.Newf(fault.Invalid, "database user %q has a name that is kept for siblings of accounts", w.User).
			WithHint("use a name that does not end in # and eight hexadecimal digits")
	}
	l, err := s.claim(w)
	if err != nil {
		return nil, err
	}
	s.backlog.setDatabase(l.database)
	if !l.want.chosen && s.accounts.likely(l.entry, l.want.bundle) {
		return l, nil // Established looks, when it matters
	}
	if l.result, err = l.activate(ctx); err != nil {
		// A commit may have gone through although its answer was lost.
		s.accounts.unclaim(l.entry, l.want.chosen)
		s.accounts.leave(l.entry)
		s.sweepSoon()
		return nil, s.bundleGone(w.Bundle, err)
	}
	return l, nil
}

// maxTakeOvers is how often an activation takes the account over before it gives
// way to those who are faster.
const maxTakeOvers = 3

// activate makes the lease's account active, or another one's where that is in
// use with other roles.
func (l *Lease) activate(ctx context.Context) (result Result, err error) {
	s, begin := l.s, time.Now()
	var taken []statement // to take the account over
	for range maxTakeOvers {
		result, err = s.activate(ctx, l, l.want, func(have state) error { return s.mayChange(l.entry, have, l.want, l.again) })
		if !errors.Is(err, errAbandoned) {
			break
		}
		done, failed := s.takeOver(ctx, l, l.want)
		if failed != nil {
			err = failed
			break
		}
		taken = append(taken, done...)
	}
	other, used := errors.AsType[*inUseError](err)
	if used || errors.Is(err, errAbandoned) {
		var pids []uint32
		if used {
			pids = other.pids
		}
		if err := l.moveAside(pids); err != nil {
			return Result{}, err
		}
		result, err = s.activate(ctx, l, l.want, func(state) error { return nil })
	}
	if err != nil {
		return Result{}, err
	}
	result.Changed = result.Changed || len(taken) > 0
	result.Statements = append(texts(taken), result.Statements...)
	result.Duration = time.Since(begin)
	return result, nil
}

// activate converges the account. When it is as wanted already, which is the
// case for every session but the first, that takes one round trip, and sessions
// do not wait for each other. Otherwise may is asked first, and again under the
// account's lock, whether the account may be changed.
func (s *Server) activate(ctx context.Context, l *Lease, want target, may func(state) error) (Result, error) {
	e := l.entry
	var have state
	var steps []statement
	l.held = ""
	seen := s.accounts.generation(e)
	err := e.together(ctx, func() error {
		return s.withConn(ctx, l.database, func(conn *pgconn.PgConn) (err error) {
			if have, err = observe(ctx, conn, want.user, want.roles); err != nil {
				return err
			}
			if err := may(have); err != nil {
				return err
			}
			var over beyond
			steps, over = plan(have, want)
			return s.check(have, want, steps, over)
		})
	})
	if err != nil {
		return Result{}, err
	}
	if len(steps) == 0 {
		l.held = fmt.Sprintf("%d: %s", have.Account.OID, have.Account.Held)
		return Result{}, nil
	}
	var result Result
	err = e.exclusively(ctx, func() error {
		result, err = s.change(ctx, l, want, have, seen, may)
		return err
	})
	return result, err
}

// change carries the plan out. have was observed at the generation seen.
func (s *Server) change(ctx context.Context, l *Lease, want target, have state, seen int, may func(state) error) (result Result, err error) {
	fresh := s.accounts.generation(l.entry) == seen
	err = s.withConn(ctx, l.database, func(conn *pgconn.PgConn) error {
		if !fresh {
			// Another session here was faster, or this is a second attempt.
			if have, err = observe(ctx, conn, want.user, want.roles); err != nil {
				return err
			}
			if err := may(have); err != nil {
				return err
			}
			if steps, over := plan(have, want); len(steps) == 0 {
				return s.check(have, want, steps, over)
			}
		}
		fresh = false
		t := &transaction{s: s, conn: conn, want: want, guard: may, unseen: l.unseen}
		if err := t.run(ctx, have); err != nil {
			return err
		}
		result = Result{
			Created:    slices.ContainsFunc(t.committed, func(s statement) bool { return s.action == createAccount }),
			Changed:    true,
			Statements: texts(t.committed),
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	s.accounts.changed(l.entry)
	return result, nil
}

// Lease is a session's claim on an active account. Its methods may be called concurrently.
type Lease struct {
	s        *Server
	wanted   Want
	database string
	result   Result

	mu       sync.Mutex // guards the rest once Activate has returned
	entry    *entry
	want     target
	mode     Mode
	sibling  bool   // the account is not the person's own
	again    bool   // this is not the first activation
	unseen   bool   // Established is still to come, and looks at what was done
	held     string // by the account at the last look; empty: something was to be done then
	still    bool   // that was so at the look before, see Untouched
	pids     []uint32
	counted  bool // the lease no longer counts
	released bool // the outcome is final
	outcome  Outcome
}

// Result says what the activation did.
func (l *Lease) Result() Result { return l.result }

// User returns the account to log in as: the user wanted, or a sibling.
func (l *Lease) User() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want.user
}

// Reactivate activates the account again. Call it when PostgreSQL refuses the
// database user's login with SQLSTATE 28000 or 28P01, or asks for another proof than
// the account has: another agent may have released the account
// after our activation and before the login. Then log in again, as [Lease.User] says
// now. Errors are those of [Server.Activate]; the lease stays valid.
func (l *Lease) Reactivate(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.accounts.spoil(l.entry)
	before := l.held
	err := l.reactivate(ctx)
	l.still = before != "" && before == l.held
	return err
}

// Untouched reports whether the last Reactivate found the account as the look at it
// before that had: as wanted, and with the very memberships that it had then, none of
// which was taken away and given again meanwhile. That login or password were taken away
// for a moment it does not tell.
func (l *Lease) Untouched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.still
}

func (l *Lease) reactivate(ctx context.Context) error {
	if l.counted {
		return fmt.Errorf("reactivate %q: the lease has been released", l.want.user)
	}
	l.again = true
	_, err := l.activate(ctx)
	if err != nil {
		l.s.sweepSoon()
		return l.s.bundleGone(l.want.bundle, err)
	}
	return nil
}

// Established notes the backend of the database user's own connection, and looks
// whether the account is still as it was activated: another agent may have
// released it, and a third one given it other roles. From here on the session is to be
// seen, and nobody does. Where it reports false, end the connection and log
// in again as [Lease.User]. Release knows that this backend has
// ended, even when PostgreSQL still lists it. It may be called again. Errors are those of [Server.Activate].
func (l *Lease) Established(ctx context.Context, pid uint32) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.pids, pid) {
		l.pids = append(l.pids, pid)
		l.s.accounts.begin(l.entry, backend{pid: pid, bundle: l.want.bundle})
	}
	user := l.want.user
	l.unseen = false
	if err := l.reactivate(ctx); err != nil || l.want.user != user {
		return false, err
	}
	l.s.accounts.sure(l.entry, pid)
	return true, nil
}
