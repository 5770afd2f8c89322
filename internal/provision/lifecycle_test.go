package provision_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

func TestSessionOfAKeptUser(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")

		first := activate(t, s, w.want(alice, provision.Keep, w.names("writer", "reader")...))
		if r := first.Result(); !r.Created || !r.Changed || len(r.Statements) != 3 {
			t.Errorf("first activation: %+v, want created with three statements", r)
		}
		w.check(t, "during", alice, active(w.names("reader", "writer")...))
		conn := w.login(t, first)
		establish(t, first, conn.PgConn())

		second := activate(t, s, w.want(alice, provision.Keep, w.names("reader", "writer")...))
		if r := second.Result(); r.Changed || len(r.Statements) != 0 {
			t.Errorf("second activation: %+v, want nothing written", r)
		}
		release(t, second, provision.StillActive)
		w.check(t, "one of two ended", alice, active(w.names("reader", "writer")...))

		w.logout(t, conn)
		release(t, first, provision.Deactivated)
		w.check(t, "after", alice, disabled())

		again := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		if r := again.Result(); r.Created || !r.Changed {
			t.Errorf("activation of the kept account: %+v, want changed", r)
		}
		w.check(t, "again", alice, active(w.name("reader")))
		one := release(t, again, provision.Deactivated)
		two := release(t, again, provision.Deactivated)
		if diff := cmp.Diff(one, two); diff != "" {
			t.Errorf("the second release tells something else:\n%s", diff)
		}
	})
}

func TestSessionOfADroppedUser(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, bob := w.agent(t), w.name("bob")
		l := activate(t, s, w.want(bob, provision.Drop, w.name("reader")))
		w.logout(t, w.login(t, l))
		release(t, l, provision.Dropped)
		w.check(t, "after", bob, gone())

		// What it owns keeps it, disabled. The table stays his.
		w.exec(t, "GRANT CREATE ON SCHEMA public TO %s", w.name("writer"))
		l = activate(t, s, w.want(bob, provision.Drop, w.name("writer")))
		conn := w.login(t, l)
		if _, err := conn.Exec(t.Context(), "CREATE TABLE public.mine (n int)"); err != nil {
			t.Fatal(err)
		}
		w.logout(t, conn)
		out := release(t, l, provision.Deactivated)
		if diff := cmp.Diff([]string{"owner of table public.mine"}, out.Dependents); diff != "" || out.KeptBecause == "" {
			t.Errorf("kept because %q of (-want +got):\n%s", out.KeptBecause, diff)
		}
		w.check(t, "after", bob, disabled())

		w.exec(t, "DROP TABLE public.mine")
		release(t, activate(t, s, w.want(bob, provision.Drop)), provision.Dropped)
		w.check(t, "at last", bob, gone())
	})
}

func TestRolesChangeInPlace(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")
		first := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		conn := w.login(t, first)

		if ok, err := first.Converge(t.Context(), []string{w.name("writer")}, ""); !ok || err != nil {
			t.Fatalf("converge: %t, %v", ok, err)
		}
		w.check(t, "policy has changed", alice, active(w.name("writer")))
		second := activate(t, s, w.want(alice, provision.Keep, w.name("writer")))
		if second.User() != alice || second.Result().Changed {
			t.Errorf("the next session uses %s and wrote %q", second.User(), second.Result().Statements)
		}

		release(t, second, provision.StillActive)
		w.logout(t, conn)
		release(t, first, provision.Deactivated)
		w.check(t, "after", alice, disabled())
	})
}

func TestOtherRolesUseASibling(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")
		own := activate(t, s, w.want(alice, provision.Keep, w.name("reader"), w.name("writer")))
		conn := w.login(t, own)
		beside := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		again := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		if beside.User() == alice || beside.User() != again.User() {
			t.Fatalf("sessions with other roles use %s and %s", beside.User(), again.User())
		}
		w.check(t, "the own account", alice, active(w.name("reader"), w.name("writer")))
		w.check(t, "the sibling", beside.User(), active(w.name("reader")))
		if ok, err := beside.Converge(t.Context(), nil, ""); ok || err != nil {
			t.Errorf("a sibling was converged: %t, %v", ok, err)
		}
		alone := w.want(alice, provision.Keep)
		alone.Alone = true
		if _, err := s.Activate(t.Context(), alone); fault.KindOf(err) != fault.Conflict || fault.Of(err).Hint == "" {
			t.Errorf("activation with other roles alone: %v, want a conflict with a hint", err)
		}
		w.logout(t, conn)
		release(t, own, provision.Deactivated)
		w.check(t, "the sibling still", beside.User(), active(w.name("reader")))
		release(t, again, provision.StillActive)
		release(t, beside, provision.Dropped)
		w.check(t, "the sibling at last", beside.User(), gone())
	})
}

func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")
		// Made by hand with more than it should have, by the admin itself, so that it may undo it.
		admin := w.adminConn(t)
		for _, sql := range []string{
			"CREATE ROLE " + q(alice) + " NOLOGIN NOINHERIT CREATEDB CREATEROLE IN ROLE " + q(provision.Group),
			"GRANT " + q(w.name("writer")) + " TO " + q(alice),
			"GRANT " + q(w.name("reader")) + " TO " + q(alice) + " WITH ADMIN OPTION",
		} {
			if w.admin == limitedAdmin && w.pg.Version >= 16 {
				sql = trimCreateDB(sql) // since 16 only who has an attribute gives it
			}
			if _, err := admin.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		w.check(t, "during", alice, active(w.name("reader")))
		var powers, handOn, inherit bool
		err := w.dba.QueryRow(t.Context(), `SELECT rolcreatedb OR rolcreaterole, rolinherit,
(SELECT bool_or(admin_option) FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = $1`, alice).Scan(&powers, &inherit, &handOn)
		if err != nil || powers || handOn || !inherit {
			t.Errorf("powers %v, hands roles on %v, inherits %v, %v; want false, false, true", powers, handOn, inherit, err)
		}
		release(t, l, provision.Deactivated)
		w.check(t, "after", alice, disabled())
	})
}

// A grant by somebody else is ended too: since version 16 each grantor has a row
// of its own, and REVOKE must name it.
func TestGrantsOfSeveralGrantorsEnd(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice, other := w.agent(t), w.name("alice"), w.name("other")
		l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		w.exec(t, "CREATE ROLE %s CREATEROLE", other)
		w.exec(t, "GRANT %s, %s TO %s WITH ADMIN OPTION", w.name("reader"), w.name("writer"), other)
		if w.admin == limitedAdmin {
			// Who may act for the other grantor may end its grants.
			w.exec(t, "GRANT %s TO %s", other, limitedAdmin)
			t.Cleanup(func() { w.execCleanup(t, "REVOKE "+q(other)+" FROM "+limitedAdmin) })
		}
		w.exec(t, "SET ROLE %s", other)
		w.exec(t, "GRANT %s, %s TO %s", w.name("reader"), w.name("writer"), alice)
		w.exec(t, "RESET ROLE")
		w.check(t, "granted by hand", alice, active(w.names("reader", "writer")...))

		second := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		w.check(t, "repaired", alice, active(w.name("reader")))
		release(t, second, provision.StillActive)
		release(t, l, provision.Deactivated)
		w.check(t, "after", alice, disabled())
	})
}
