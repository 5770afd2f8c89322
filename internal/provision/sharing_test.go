package provision_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// Sessions with other roles in two processes use two accounts, and those with
// equal roles one, whoever comes first.
func TestOtherRolesInAnotherProcess(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		mine, theirs, alice := w.agent(t), w.agent(t), w.name("alice")
		first := activate(t, mine, w.want(alice, provision.Keep, w.name("reader")))
		conn := w.login(t, first)
		establish(t, first, conn.PgConn())

		same := activate(t, theirs, w.want(alice, provision.Keep, w.name("reader")))
		if same.User() != alice {
			t.Errorf("a session with equal roles uses %s", same.User())
		}
		other := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("writer")))
		if other.User() == alice {
			t.Fatal("a session with other roles shares the account")
		}
		w.check(t, "the first", alice, active(w.name("reader")))
		w.check(t, "the other", other.User(), active(w.name("writer")))
		alone := w.want(alice, provision.Keep)
		alone.Alone = true
		if _, err := w.agent(t).Activate(t.Context(), alone); fault.KindOf(err) != fault.Conflict || fault.Of(err).Detail == "" {
			t.Errorf("activation alone: %v, want a conflict that names the session in the way", err)
		}
		w.logout(t, conn)
		release(t, first, provision.Deactivated)
		release(t, same, provision.Deactivated)
		release(t, other, provision.Dropped)
	})
}

// What a crash left active with other roles is taken over under the own name.
func TestTakeOverAfterACrash(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		for _, mode := range []provision.Mode{provision.Keep, provision.Drop} {
			user := w.name(mode.String())
			activate(t, w.agent(t), w.want(user, mode, w.name("reader"))) // and crash
			want := w.want(user, mode, w.name("writer"))
			want.Alone = true // nobody is in the way
			l := activate(t, w.agent(t), want)
			w.check(t, "taken over", user, active(w.name("writer")))
			if !l.Result().Changed || l.User() != user {
				t.Errorf("taken over as %s: %+v", l.User(), l.Result())
			}
			establish(t, l, w.login(t, l).PgConn())
		}
	})
}

// Between the activation of an account and the login another agent may release
// it, and a third one give it other roles: the login works, but the session is
// not let go on with them.
func TestAccountIsAnothersAtTheLogin(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		alice := w.name("alice")
		mine := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("reader")))
		if _, err := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("reader"))).Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		theirs := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("writer")))
		their := w.login(t, theirs)
		establish(t, theirs, their.PgConn())

		w.losesAccount(t, mine)
		conn := w.login(t, mine)
		establish(t, mine, conn.PgConn())
		w.check(t, "mine", mine.User(), active(w.name("reader")))
		w.check(t, "theirs", alice, active(w.name("writer")))
		w.logout(t, conn)
		release(t, mine, provision.Dropped)
		w.logout(t, their)
		release(t, theirs, provision.Deactivated)
	})
}

// The same where the third agent's session is not there yet: whoever comes second
// gives way, and nobody is given the other's roles.
func TestAccountIsAnothersBeforeTheirLogin(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		alice := w.name("alice")
		mine := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("reader")))
		theirs := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("writer")))
		if theirs.User() != alice {
			t.Fatalf("nobody is seen on the account, and yet %s is used", theirs.User())
		}
		w.losesAccount(t, mine)
		w.check(t, "theirs", alice, active(w.name("writer")))
		w.check(t, "mine", mine.User(), active(w.name("reader")))
	})
}

// losesAccount logs in with a lease whose account has been given other roles: the
// session does not get them, and has another account from then on. Where it needs a
// password it does not even get that.
func (w *world) losesAccount(t *testing.T, l *provision.Lease) {
	t.Helper()
	conn, err := w.tryLeased(t.Context(), t, l, w.db)
	if w.stock {
		if !refusedLogin(err) {
			t.Fatalf("a password for the account of another: %v", err)
		}
		if err := l.Reactivate(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if sure, err := l.Established(t.Context(), conn.PID()); sure || err != nil {
		t.Errorf("a session with the roles of another: %t, %v", sure, err)
	}
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
}

// A login that had passed PostgreSQL's check when the account was to be taken over
// keeps its roles; the other session uses a sibling.
func TestTakeOverSeesALoginUnderWay(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		asLimited(t, version, func(t *testing.T, w *world) {
			alice, target := w.name("alice"), w.pg.Database(t)
			lease := activate(t, w.agent(t), w.want(alice, provision.Keep, w.name("reader")))
			tx, err := w.dba.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "ALTER DATABASE "+q(target)+" RENAME TO "+q(target+"_renamed")); err != nil {
				t.Fatal(err)
			}
			var together errgroup.Group
			var conn *pgconn.PgConn
			together.Go(func() (err error) {
				conn, err = w.tryLeased(t.Context(), t, lease, target)
				return err
			})
			awaitLockOnDatabase(t, tx)
			var other *provision.Lease
			together.Go(func() (err error) {
				other, err = w.agent(t).Activate(t.Context(), w.want(alice, provision.Keep, w.name("writer")))
				return err
			})
			look := w.pg.Superuser(t, w.db)
			eventually(t, "login is disabled", func() bool { return !loginAllowed(t, look, alice) })
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := together.Wait(); err != nil {
				t.Fatal(err)
			}
			establish(t, lease, conn)
			w.check(t, "the session is there", alice, active(w.name("reader")))
			w.check(t, "the other one", other.User(), active(w.name("writer")))
			if err := errors.Join(hangUp(conn)); err != nil {
				t.Error(err)
			}
			release(t, lease, provision.Deactivated)
		})
	}
}

// A session that has chosen its roles is not given more because another one is,
// in this process or another.
func TestChosenRolesStay(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")
		whole := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		conn := w.login(t, whole)
		establish(t, whole, conn.PgConn())
		chosen := w.want(alice, provision.Keep, w.name("reader"))
		chosen.Chosen = true
		both := w.names("reader", "writer")
		beside := activate(t, s, chosen)
		elsewhere := activate(t, w.agent(t), chosen)
		if beside.User() == alice || elsewhere.User() != beside.User() {
			t.Errorf("who has chosen shares the account with who has not: %s, %s", beside.User(), elsewhere.User())
		}
		if ok, err := whole.Converge(t.Context(), both, ""); !ok || err != nil {
			t.Errorf("converged: %t, %v", ok, err)
		}
		w.check(t, "whole", alice, active(both...))
		w.check(t, "chosen", beside.User(), active(w.name("reader")))
		w.logout(t, conn)
		release(t, whole, provision.Deactivated)

		first := activate(t, w.agent(t), chosen) // before anybody else
		whole = activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		if ok, err := whole.Converge(t.Context(), both, ""); ok || err != nil || first.User() != whole.User() {
			t.Errorf("converged %s: %t, %v", first.User(), ok, err)
		}
		w.check(t, "chosen", alice, active(w.name("reader")))
		release(t, whole, provision.Deactivated)

		whole = activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		if ok, err := whole.Converge(t.Context(), both, ""); !ok || err != nil {
			t.Errorf("nobody chooses any more: converged %t, %v", ok, err)
		}
		release(t, whole, provision.Deactivated)
		// Chosen roles may be none at all.
		chosen.Roles, chosen.Mode = nil, provision.Drop
		activate(t, w.agent(t), chosen) // and crash
		l := activate(t, s, w.want(alice, provision.Drop, both...))
		w.check(t, "after a choice of nothing", alice, active(both...))
		release(t, l, provision.Dropped)
	})
}

// Nobody may have the name of somebody else's sibling.
func TestNamesOfSiblingsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), superAdmin)
	_, err := w.agent(t).Activate(t.Context(), w.want(w.name("alice#0123abcd"), provision.Keep))
	refused(t, err, fault.Invalid, "", "eight hexadecimal digits")
}
