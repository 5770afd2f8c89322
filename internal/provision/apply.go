package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxRounds bounds how often one plan is made again. Under the account's lock the first
// does it, unless somebody changes by hand what the lock does not cover.
const maxRounds = 4

// transaction carries out plans on one connection.
type transaction struct {
	s    *Server
	conn *pgconn.PgConn
	want target
	// durable waits for the disk when committing. An activation does not: losing
	// it in a crash of the server is the safe direction.
	durable bool
	// ahead, if set, are steps that are committed before anything else, in a transaction of their
	// own but in the same round trip, unless a session of the account is there that has not ended.
	// It does not wait for the disk, as the commit that follows does, unless aheadOnly says that
	// there may be nothing left to write.
	ahead     []statement
	aheadOnly bool
	ended     []uint32
	// settle waits for the logins under way before anything is changed.
	settle bool
	// guard, if set, looks at what is found under the lock, before anything is
	// changed, and stops the transaction by returning an error.
	guard func(state) error
	// before, if set, runs when guard has let the transaction pass, before anything is changed.
	before func(context.Context) error
	// finally, if set, runs when the account is as wanted, before the commit.
	finally func(context.Context) error
	// unseen leaves it to somebody else to look at the result.
	unseen bool

	next      batch       // what goes out with the next message
	done      []statement // carried out, not yet committed
	committed []statement
}

// run leads the account from have, which may be out of date, to what is wanted.
func (t *transaction) run(ctx context.Context, have state) error {
	if err := t.s.frozen(); err != nil {
		return err
	}
	if _, err := t.plan(have); err != nil {
		return err // without a lock on what is not ours
	}
	for range maxRounds {
		now, finished, err := t.round(ctx, have)
		if !t.conn.IsClosed() && t.conn.TxStatus() != 'I' {
			_, rollback := t.conn.Exec(ctx, "ROLLBACK").ReadAll()
			err = errors.Join(err, rollback)
		}
		if err != nil || finished {
			return err
		}
		have = now
	}
	return fmt.Errorf("provision %q: the account still differs after %d rounds", t.want.user, maxRounds)
}

// round takes the lock and looks, in one round trip. The plan is made of what is
// found there; a second round trip carries it out, commits, so that the locks on
// granted roles do not wait for this process, and looks at the result. It reports what was
// seen last, and whether nothing is left to be done.
func (t *transaction) round(ctx context.Context, have state) (now state, finished bool, err error) {
	t.next, t.done = batch{}, nil
	if now, err = t.begin(ctx, have); err != nil {
		return now, false, err
	}
	if t.guard != nil {
		if err := t.guard(now); err != nil {
			return now, false, err
		}
	}
	steps, err := t.plan(now)
	if err != nil {
		return now, false, err
	}
	if len(steps) > 0 && now.Account.exists() && steps[0].text == now.Account.Comment {
		steps = steps[1:] // the lock is there
	}
	if t.before != nil {
		if err := t.before(ctx); err != nil {
			return now, false, err
		}
	}
	t.add(steps)
	if t.finally == nil {
		t.commit()
	}
	if len(steps) > 0 && !t.unseen {
		t.next.observe(t.want.user, t.want.roles, &now)
	}
	if err := t.send(ctx); err != nil || t.unseen {
		return now, err == nil, err
	}
	if steps, err = t.plan(now); err != nil || len(steps) > 0 || t.finally == nil {
		return now, err == nil && len(steps) == 0, err
	}
	if err := t.finally(ctx); err != nil {
		return now, false, err
	}
	t.commit()
	err = t.send(ctx)
	return now, err == nil, err
}

// plan returns the steps that lead from have to what is wanted, if the admin may do that.
func (t *transaction) plan(have state) ([]statement, error) {
	steps, over := plan(have, t.want)
	return steps, t.s.check(have, t.want, steps, over)
}

// begin begins the transaction. It locks the account and looks, unless there is none.
func (t *transaction) begin(ctx context.Context, have state) (now state, err error) {
	if len(t.ahead) > 0 {
		t.next.exec(beginSQL, nil)
		if !t.aheadOnly {
			t.next.exec("SET LOCAL synchronous_commit = "+t.s.activationCommit(), nil)
		}
		t.add(t.ahead[:1]) // the lock
		t.next.alone(t.want.user, t.ended)
		t.add(t.ahead[1:])
		t.commit()
	}
	t.next.exec(beginSQL, nil)
	if !t.durable {
		t.next.exec("SET LOCAL synchronous_commit = "+t.s.activationCommit(), nil)
	}
	if !have.Account.exists() {
		return have, nil
	}
	t.add([]statement{lockOf(have.Account, t.want)})
	var pending []uint32
	if t.settle {
		t.next.logins(&pending)
	}
	t.next.observe(t.want.user, t.want.roles, &now)
	if err := t.send(ctx); err != nil || len(pending) == 0 {
		return now, err
	}
	err = awaitLogins(ctx, pending, func() (left []uint32, err error) {
		t.next.logins(&left)
		t.next.observe(t.want.user, t.want.roles, &now)
		if err := t.send(ctx); err != nil || t.guard == nil {
			return left, err
		}
		return left, t.guard(now)
	})
	return now, err
}

const beginSQL = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

// add puts steps on the next message.
func (t *transaction) add(steps []statement) {
	for _, step := range steps {
		t.next.exec(step.sql(), func(_ *pgconn.Result, err error) error {
			if err != nil && step.action == comment && codeOf(err) == codeLockTimeout {
				return fmt.Errorf("%w: %w", errLocked, err)
			}
			if err != nil {
				return t.s.applyFault(step, err)
			}
			t.done = append(t.done, step)
			return nil
		})
	}
}

// errLocked is about an account that a release elsewhere holds for long, because what the account
// owns is in use. It is asked for again.
var errLocked = errors.New("the account is locked")

// commit ends the transaction with the next message.
func (t *transaction) commit() {
	t.next.exec("COMMIT", func(_ *pgconn.Result, err error) error {
		if err == nil {
			t.committed = append(t.committed, t.done...)
			t.done, t.ahead = nil, nil
		}
		return err
	})
}

// send sends the next message and reads the answers.
func (t *transaction) send(ctx context.Context) error {
	b := t.next
	t.next = batch{}
	if len(b.queries) == 0 {
		return nil
	}
	return b.run(ctx, t.conn)
}

// activationCommit is the synchronous_commit of an activation.
func (s *Server) activationCommit() string {
	if s.cfg.Replicas {
		return "local" // replicas get only what is on the writer's disk
	}
	return "off"
}
