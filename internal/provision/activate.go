package provision

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
	if _, err := s.target(w); err != nil {
		return nil, err
	}
	user := w.User
	e, w, err := s.claim(w)
	if err != nil {
		return nil, err
	}
	database := s.database(w.DatabaseName)
	s.backlog.setDatabase(database)
	want, err := s.target(w)
	if err != nil { // the name of a sibling is as good as the user's
		s.accounts.unclaim(e)
		s.accounts.leave(e)
		return nil, err
	}
	l := &Lease{s: s, entry: e, want: want, mode: w.Mode, database: database, sibling: w.User != user}
	l.result, err = s.activate(ctx, e, database, want)
	if err != nil {
		// A commit may have gone through although its answer was lost.
		s.accounts.unclaim(e)
		s.accounts.leave(e)
		s.sweepSoon()
		return nil, s.bundleGone(w.Bundle, err)
	}
	return l, nil
}

// activate converges the account. When it is as wanted already, which is the
// case for every session but the first, that takes one round trip, and sessions
// do not wait for each other.
func (s *Server) activate(ctx context.Context, e *entry, database string, want target) (Result, error) {
	begin := time.Now()
	var have state
	var steps []statement
	seen := s.accounts.generation(e)
	err := e.together(ctx, func() error {
		return s.withConn(ctx, database, func(conn *pgconn.PgConn) (err error) {
			if have, err = observe(ctx, conn, want.user, want.roles); err != nil {
				return err
			}
			var stuck []membership
			steps, stuck = plan(have, want)
			return s.check(have, want, steps, stuck)
		})
	})
	if err != nil {
		return Result{}, err
	}
	result := Result{}
	if len(steps) > 0 {
		err = e.exclusively(ctx, func() error {
			result, err = s.change(ctx, e, database, want, have, seen)
			return err
		})
	}
	result.Duration = time.Since(begin)
	return result, err
}

// change carries the plan out. have was observed at the generation seen.
func (s *Server) change(ctx context.Context, e *entry, database string, want target, have state, seen int) (result Result, err error) {
	fresh := s.accounts.generation(e) == seen
	err = s.withConn(ctx, database, func(conn *pgconn.PgConn) error {
		if !fresh {
			// Another session here was faster, or this is a second attempt.
			if have, err = observe(ctx, conn, want.user, want.roles); err != nil {
				return err
			}
			if steps, stuck := plan(have, want); len(steps) == 0 {
				return s.check(have, want, steps, stuck)
			}
		}
		fresh = false
		t := &transaction{s: s, conn: conn, want: want}
		if err := t.run(ctx, have); err != nil {
			return err
		}
		result = Result{
			Created:    slices.ContainsFunc(t.done, func(s statement) bool { return s.action == createAccount }),
			Changed:    true,
			Statements: texts(t.done),
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	s.accounts.changed(e)
	return result, nil
}

// Lease is a session's claim on an active account. Its methods may be called concurrently.
type Lease struct {
	s        *Server
	entry    *entry
	want     target
	mode     Mode
	database string
	sibling  bool // the account is not the person's own
	result   Result

	mu       sync.Mutex
	pids     []uint32
	counted  bool // the lease no longer counts
	released bool // the outcome is final
	outcome  Outcome
}

// Result says what the activation did.
func (l *Lease) Result() Result { return l.result }

// User returns the account to log in as: the user wanted, or a sibling.
func (l *Lease) User() string { return l.want.user }

// Reactivate activates the account again. Call it when PostgreSQL refuses the
// database user's login with SQLSTATE 28000 or 28P01: another agent may have released the account
// after our activation and before the login. Then log in again. Errors are those of
// [Server.Activate]; the lease stays valid.
func (l *Lease) Reactivate(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counted {
		return fmt.Errorf("reactivate %q: the lease has been released", l.want.user)
	}
	l.s.accounts.spoil(l.entry)
	_, err := l.s.activate(ctx, l.entry, l.database, l.want)
	return err
}

// Established notes the backend of the database user's own connection. Release
// then knows that this backend has ended, even when PostgreSQL still lists it.
func (l *Lease) Established(pid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pids = append(l.pids, pid)
	l.s.accounts.begin(l.entry, pid)
}
