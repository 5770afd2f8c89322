package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxRounds bounds how often one transaction plans again. Two are the most that
// a concurrent change can cause: after the first round the account is locked.
const maxRounds = 4

// transaction carries out plans on one connection.
type transaction struct {
	s    *Server
	conn *pgconn.PgConn
	want target
	// durable waits for the disk when committing. An activation does not: losing
	// it in a crash of the server is the safe direction.
	durable bool
	// look only locks at first: what is changed depends on what is seen then.
	look bool
	// settle looks, and waits for the logins under way before anything is changed.
	settle bool
	// guard, if set, looks at what is found under the lock, before anything is
	// changed, and stops the transaction by returning an error. What it would see
	// afterwards is this transaction's own work.
	guard func(state) error
	// before, if set, runs when guard has let the transaction pass, before anything is changed.
	before func(context.Context) error
	// finally, if set, runs when the account is as wanted, before the commit.
	finally func(context.Context) error

	judged bool        // guard has let the transaction pass
	done   []statement // everything carried out
}

// run leads the account from have, which may be out of date, to what is wanted.
// The steps go out in one round trip with the observation that verifies them; the
// commit is the second.
func (t *transaction) run(ctx context.Context, have state) error {
	if err := t.s.frozen(); err != nil {
		return err
	}
	steps, over := plan(have, t.want)
	if err := t.s.check(have, t.want, steps, over); err != nil {
		return err
	}
	if have.Account.exists() && (len(steps) == 0 || t.look || t.settle) {
		steps = []statement{lockOf(have.Account, t.want)}
	}
	err := t.rounds(ctx, steps)
	if err != nil && !t.conn.IsClosed() {
		if _, rollback := t.conn.Exec(ctx, "ROLLBACK").ReadAll(); rollback != nil {
			err = errors.Join(err, rollback)
		}
	}
	return err
}

// rounds carries steps out, observes and plans again until nothing differs, and commits.
func (t *transaction) rounds(ctx context.Context, steps []statement) error {
	have, err := t.first(ctx, steps)
	if err != nil {
		return err
	}
	for range maxRounds {
		if t.guard != nil && !t.judged {
			if err := t.guard(have); err != nil {
				return err
			}
			t.judged = true
		}
		steps, over := plan(have, t.want)
		if err := t.s.check(have, t.want, steps, over); err != nil {
			return err
		}
		if t.before != nil {
			if err := t.before(ctx); err != nil {
				return err
			}
			t.before = nil
		}
		if len(steps) == 0 {
			return t.commit(ctx)
		}
		var next batch
		t.add(&next, steps)
		next.observe(t.want.user, t.want.roles, &have)
		if err := next.run(ctx, t.conn); err != nil {
			return err
		}
	}
	return fmt.Errorf("provision %q: the account still differs after %d rounds", t.want.user, maxRounds)
}

// first begins the transaction, carries the steps out, and observes.
func (t *transaction) first(ctx context.Context, steps []statement) (have state, err error) {
	var b batch
	b.exec("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", nil)
	if !t.durable {
		b.exec("SET LOCAL synchronous_commit = "+t.s.activationCommit(), nil)
	}
	if t.guard != nil && len(steps) > 1 && steps[0].action == comment {
		// What the steps were made for may be out of date: it is judged between lock and change.
		t.add(&b, steps[:1])
		b.check(t.want.user, t.want.roles, t.guard)
		steps, t.judged = steps[1:], true
	}
	t.add(&b, steps)
	if !t.settle {
		b.observe(t.want.user, t.want.roles, &have)
		err = b.run(ctx, t.conn)
		return have, err
	}
	var pending []uint32
	b.logins(&pending)
	b.observe(t.want.user, t.want.roles, &have)
	if err := b.run(ctx, t.conn); err != nil || len(pending) == 0 {
		return have, err
	}
	err = awaitLogins(ctx, pending, func() (now []uint32, err error) {
		var b batch
		b.logins(&now)
		b.observe(t.want.user, t.want.roles, &have)
		if err := b.run(ctx, t.conn); err != nil || t.guard == nil {
			return now, err
		}
		return now, t.guard(have)
	})
	return have, err
}

// activationCommit is the synchronous_commit of an activation.
func (s *Server) activationCommit() string {
	if s.cfg.Replicas {
		return "local" // replicas get only what is on the writer's disk
	}
	return "off"
}

// add puts the steps on the batch.
func (t *transaction) add(b *batch, steps []statement) {
	for _, step := range steps {
		b.exec(step.sql(), func(_ *pgconn.Result, err error) error {
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

func (t *transaction) commit(ctx context.Context) error {
	if t.finally != nil {
		if err := t.finally(ctx); err != nil {
			return err
		}
	}
	_, err := t.conn.Exec(ctx, "COMMIT").ReadAll()
	return err
}
