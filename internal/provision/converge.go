package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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

// lingerWait is how long transactions are waited for that were running when rights
// were taken away: most statements take milliseconds.
const lingerWait = 250 * time.Millisecond

// transactionsSQL lists the transactions that backends are in. Every transaction holds a
// lock on its virtual id, which everybody may see, other than what
// pg_stat_activity says about others. $1 are the process ids.
const transactionsSQL = `SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'running', COALESCE((SELECT pg_catalog.json_agg(pid || ' ' || virtualxid) FROM pg_catalog.pg_locks
    WHERE locktype = 'virtualxid' AND granted AND virtualxid = virtualtransaction AND pid = ANY ($1::pg_catalog.int4[])), '[]'))`

// Lingers reports whether the session may still use rights that have just been
// taken from its account. PostgreSQL checks rights when a statement begins: a cursor that is
// open, or a statement that runs, goes on. So does, before version 16, who has
// become a bundle with SET ROLE, when the account was moved to another one.
// Transactions are given a moment to end.
func (l *Lease) Lingers(ctx context.Context, moved bool) (bool, error) {
	l.mu.Lock()
	pids := slices.Clone(l.pids)
	l.mu.Unlock()
	var numbers []int64
	for _, pid := range pids {
		numbers = append(numbers, int64(pid))
	}
	var old []string // transactions that ran when we looked first
	first := true
	lingers := false
	err := poll(ctx, lingerWait, func() (bool, error) {
		var now struct {
			Version int      `json:"version"`
			Running []string `json:"running"`
		}
		err := l.s.withConn(ctx, l.database, func(conn *pgconn.PgConn) error {
			var b batch
			b.params(transactionsSQL, [][]byte{arrayText(numbers)}, func(r *pgconn.Result) error { return decodeJSON(r, &now) })
			return b.run(ctx, conn)
		})
		if first {
			old, first = now.Running, false
		}
		ended := func(transaction string) bool { return !slices.Contains(now.Running, transaction) }
		old = slices.DeleteFunc(old, ended)
		escaped := moved && now.Version < version16
		lingers = escaped || len(old) > 0
		return !lingers || escaped, err
	})
	return lingers, err
}
