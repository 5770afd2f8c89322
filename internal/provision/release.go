package provision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Released says what became of an account.
type Released int

// What can become of an account.
const (
	Nothing     Released = iota // it was released before, or is not ours
	StillActive                 // the user has other sessions; the last one releases it
	Deactivated                 // no login, no roles
	Dropped                     // gone
)

func (r Released) String() string {
	switch r {
	case StillActive:
		return "still active"
	case Deactivated:
		return "deactivated"
	case Dropped:
		return "dropped"
	case Nothing:
	}
	return "nothing"
}

// Outcome says what a release or a sweep did to an account.
type Outcome struct {
	User        string
	Mode        Mode
	Result      Released
	KeptBecause string   // with Deactivated, unless it is kept always: why it is still there
	Dependents  []string // what depends on it, in PostgreSQL's words
	Moved       []string // with Reassign: what [Inheritor] has got, in PostgreSQL's words
	NotMoved    string   // with Reassign: why what the account owns was not moved
	Statements  []string // what was written, as SQL
	Duration    time.Duration
	Err         error // of a sweep: why the account is not released
}

// errTaken stops a release because somebody needs the account.
var errTaken = errors.New("the account is in use")

// Release gives the lease back. The last lease of the user on the server, in this
// and every other process, takes login and roles away, and in mode Drop drops the
// account. Call it when PostgreSQL has closed the session's connection. ctx should
// outlive the session and have a deadline; what fails is found by the sweep. After
// success further calls return the same outcome.
func (l *Lease) Release(ctx context.Context) (Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return l.outcome, nil
	}
	s, e := l.s, l.entry
	if l.counted {
		e = s.accounts.use(l.want.user) // a second attempt
	} else {
		l.counted = true
		s.accounts.unclaim(e, l.want.chosen)
	}
	defer s.accounts.leave(e)
	r := &release{s: s, entry: e, database: l.database, user: l.want.user, mode: l.mode, ended: s.accounts.end(e, l.pids), estate: l.wanted.DatabaseName}
	outcome, err := r.run(ctx)
	if err != nil {
		s.sweepSoon()
		return outcome, err
	}
	l.released, l.outcome = true, outcome
	return outcome, nil
}

// release takes an account out of use.
type release struct {
	s        *Server
	entry    *entry
	database string
	estate   string // the logical database in which the account may own something
	user     string
	mode     Mode
	ended    []uint32 // backends that no longer count

	unreached string // why the estate's database cannot be used
	done      []statement
}

func (r *release) run(ctx context.Context) (Outcome, error) {
	begin := time.Now()
	out := Outcome{User: r.user, Mode: r.mode, Result: StillActive}
	if r.taken() {
		return out, nil
	}
	if err := r.s.frozen(); err != nil {
		return out, err
	}
	done, err := r.s.turns.take(ctx) // before the gate: an activation does not wait for a turn
	if err != nil {
		return out, tooLate(err)
	}
	defer done()
	err = r.entry.exclusively(ctx, func() error {
		if r.taken() {
			return errTaken
		}
		r.s.accounts.changed(r.entry)
		return r.connected(ctx, func(conn *pgconn.PgConn) error { return r.steps(ctx, conn, &out) })
	})
	out.Statements, out.Duration = texts(r.done), time.Since(begin)
	if errors.Is(err, errTaken) {
		out.Result = StillActive
		return out, nil
	}
	return out, err
}

// taken reports whether a session of this process has come for the account.
func (r *release) taken() bool { return r.s.accounts.leased(r.user) }

// steps is the release protocol of the package comment. It may be run again from
// the beginning after an error at any point.
func (r *release) steps(ctx context.Context, conn *pgconn.PgConn, out *Outcome) error {
	for {
		have, err := r.idle(ctx, conn)
		if err != nil {
			return err
		}
		acc := have.Account
		off := target{user: r.user, after: r.mode}
		steps, over := plan(have, off)
		switch {
		case !acc.exists() || !acc.Managed:
			out.Result = Nothing
			return nil
		case have.sealed(off):
			return over.fault(r.user)
		case len(steps) == 0 && len(over.memberships) == 0 && r.mode == Keep:
			out.Result = Deactivated
			return nil
		}
		err = r.strip(ctx, conn, have, out)
		if !errors.Is(err, errSlippedIn) {
			return err
		}
		// Whoever allows login is answerable for it, for other releases that see it
		// stop. So this one looks again whether the session is still there.
		on := &transaction{conn: conn, want: r.target(true)}
		if err := r.transact(ctx, on, have); err != nil {
			return err
		}
	}
}

// target is the account with its roles as they are.
func (r *release) target(login bool) target {
	return target{user: r.user, login: login, keepRoles: true, after: r.mode}
}

// errSlippedIn stops a release because a login had passed PostgreSQL's check
// before login was disabled.
var errSlippedIn = errors.New("a session has slipped in")

// strip disables login and commits. Then, if nobody can log in and nobody has, it takes
// the roles away and, unless the account is kept, the account. Logins under way are awaited under the
// account's lock: it is what keeps login disabled meanwhile.
func (r *release) strip(ctx context.Context, conn *pgconn.PgConn, have state, out *Outcome) error {
	var over beyond
	t := &transaction{conn: conn, want: target{user: r.user, after: r.mode}, settle: true, ended: r.ended}
	if have.Account.Login {
		t.ahead, _ = plan(have, r.target(false))
		t.aheadOnly = r.mode == Keep && len(have.Account.Memberships) == 0
	}
	t.guard = func(now state) error {
		switch {
		case now.Account.Login || r.taken() || !now.Account.Managed:
			return errTaken // by somebody who has allowed login, or is about to
		case len(r.others(now)) > 0:
			return errSlippedIn
		}
		_, over = plan(now, t.want)
		return nil
	}
	*out = Outcome{User: r.user, Mode: r.mode, Result: Deactivated}
	if r.mode == Reassign {
		t.before = func(ctx context.Context) error { return r.bequeath(ctx, t, out) }
	}
	if r.mode != Keep {
		t.finally = func(ctx context.Context) error { return r.drop(ctx, t, out) }
	}
	if err := r.transact(ctx, t, have); err != nil {
		return err
	}
	if len(over.memberships) > 0 && out.Result != Dropped { // powers are of no use without login
		return over.fault(r.user)
	}
	return nil
}

// drop drops the account inside the transaction, which goes on when something
// depends on the account.
func (r *release) drop(ctx context.Context, t *transaction, out *Outcome) error {
	step := statement{action: drop, user: r.user}
	t.next.exec("SAVEPOINT before_drop", nil)
	var err error
	t.next.exec(step.sql(), func(_ *pgconn.Result, failed error) error {
		if err = failed; failed == nil {
			t.done = append(t.done, step)
		}
		return nil
	})
	if failed := t.send(ctx); failed != nil {
		return failed
	}
	if err == nil {
		out.Result, out.NotMoved = Dropped, "" // it owned nothing
		return nil
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !slices.Contains(keeping, pg.Code) {
		return err
	}
	out.KeptBecause = pg.Message
	out.Dependents = strings.FieldsFunc(pg.Detail, func(c rune) bool { return c == '\n' })
	_, err = t.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT before_drop").ReadAll()
	return err
}

// keeping are the SQLSTATEs for which an account is disabled instead of dropped. That it
// stays locked is in the hands of who prepared a transaction with it.
var keeping = []string{codeDependents, codeInsufficientRights, codeLockTimeout, codeStatementTimeout}

// transact runs a durable transaction and notes what it did.
func (r *release) transact(ctx context.Context, t *transaction, have state) error {
	t.s, t.durable = r.s, true
	err := t.run(ctx, have)
	r.done = append(r.done, t.committed...)
	return err
}

// others returns the backends of the account that are not known to have ended.
func (r *release) others(have state) []uint32 {
	return slices.DeleteFunc(slices.Clone(have.Account.Sessions), func(pid uint32) bool { return slices.Contains(r.ended, pid) })
}

// How long a release waits.
const (
	// farewellWait is for a backend to vanish from pg_stat_activity after its
	// client is gone. One that does not notice (its client's machine was cut off)
	// is not waited for: its session is over, and so are its rights.
	farewellWait = time.Second
	// loginWait is for logins that had passed the check before login was disabled.
	// They take milliseconds. Somebody who stalls a login on purpose cannot
	// keep rights alive with it.
	loginWait = 2 * time.Second
	firstPoll = time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// idle observes the account until none of its backends is left, or returns
// errTaken when one is there that is not known to have ended.
func (r *release) idle(ctx context.Context, conn *pgconn.PgConn) (have state, err error) {
	err = poll(ctx, farewellWait, func() (bool, error) {
		if have, err = observe(ctx, conn, r.user, nil); err != nil {
			return true, err
		}
		if !have.Account.Managed {
			return true, nil
		}
		if len(r.others(have)) > 0 {
			return true, errTaken
		}
		return len(have.Account.Sessions) == 0, nil
	})
	return have, err
}

// poll calls ready with growing pauses until it says so, fails, or the time is
// over. That the time is over is no error: ready has left its last answer behind.
func poll(ctx context.Context, most time.Duration, ready func() (bool, error)) error {
	over := time.NewTimer(most)
	defer over.Stop()
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		done, err := ready()
		if done || err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-over.C:
			return nil
		case <-ctx.Done():
			return tooLate(ctx.Err())
		}
	}
}
