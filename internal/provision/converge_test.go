package provision_test

import (
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// TestMovedToAnotherBundle: who does not use what was lost has the new rights and no
// others; who could go on to use it is told apart.
func TestMovedToAnotherBundle(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 AS SELECT generate_series(1, 1000) AS n", "CREATE TABLE t3 (n int)", "CREATE VIEW v AS SELECT n FROM t1")
		w.newSchema(t, "other", "CREATE TABLE t2 (n int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC")
		w.letGrant(t, "app")
		w.letGrant(t, "other")
		s, alice := w.agent(t), w.name("alice")
		give := func(key string, selects func(access.Object) bool) *provision.Bundle {
			return bundle(t, s, w.bundleWant(key, give(func(o access.Object) []string {
				switch {
				case !selects(o):
					return nil
				case o.Kind == resource.ObjectFunction:
					return []string{"EXECUTE"}
				}
				return []string{"SELECT"}
			})))
		}
		all := give("all", func(o access.Object) bool { return o.Kind != resource.ObjectFunction })
		most := give("most", func(o access.Object) bool { return o.Name == "t2" || o.Name == "t3" })
		function := give("function", func(o access.Object) bool { return o.Name == "t2" || o.Name == "t3" || o.Name == "f" })
		want := w.want(alice, provision.Keep, w.name("reader"))
		want.Bundle = all.Role()
		l := activate(t, s, want)
		conn := w.login(t, l)
		establish(t, l, conn.PgConn())
		move := func(to *provision.Bundle) {
			t.Helper()
			if changed, err := l.Converge(t.Context(), want.Roles, to.Role()); !changed || err != nil {
				t.Fatal(changed, err)
			}
			w.check(t, "moved", alice, active(sorted(w.name("reader"), to.Role())...))
		}
		for _, session := range []struct {
			name   string
			from   *provision.Bundle
			before string
			after  string // works when the session lingers, and otherwise too unless it is told that it does
			holds  bool
		}{
			{"idle", all, "SELECT * FROM app.t1", "SELECT * FROM app.t3", false},
			{"prepared statement", all, "PREPARE p AS SELECT * FROM app.t1", "SELECT 1", false},
			{"transaction about something else", all, "BEGIN; SELECT * FROM app.t3; DECLARE c CURSOR FOR SELECT * FROM other.t2", "FETCH 1 FROM c", false},
			{"transaction about nothing", all, "BEGIN", "SELECT * FROM other.t2", false},
			{"rolled back to before", all, "BEGIN; SAVEPOINT s; DECLARE c CURSOR FOR SELECT * FROM app.t1; ROLLBACK TO s", "SELECT 1", false},
			{"cursor", all, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM app.t1", "FETCH 1 FROM c", true},
			{"cursor in a savepoint", all, "BEGIN; SAVEPOINT s; DECLARE c CURSOR FOR SELECT * FROM app.t1; RELEASE s", "FETCH 1 FROM c", true},
			{"cursor that is to be held", all, "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM app.t1", "FETCH 1 FROM c", true},
			{"cursor on a view", all, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM app.v", "FETCH 1 FROM c", true},
			{"cursor of a prepared statement", all, "PREPARE q AS SELECT * FROM app.v; EXECUTE q; BEGIN; DECLARE c CURSOR FOR SELECT (SELECT count(*) FROM app.v), n FROM app.t1", "FETCH 1 FROM c", true},
			{"a function, which is not seen", function, "BEGIN; DECLARE c CURSOR FOR SELECT other.f() FROM generate_series(1, 9)", "FETCH 1 FROM c", true},
			{"a function, although it is not used", function, "BEGIN", "SELECT 1", true},
		} {
			move(session.from)
			mustExec(t, conn, session.before)
			move(most)
			lingers, err := l.LingersOn(t.Context(), session.from.Role())
			if want := session.holds || w.pg.Version < 16; err != nil || lingers != want {
				t.Errorf("%s: lingers %t, %v, want %t", session.name, lingers, err, want)
			}
			mustExec(t, conn, session.after)
			mustExec(t, conn, "ROLLBACK; DEALLOCATE ALL")
			for _, sql := range []string{"SELECT * FROM app.t1", "SELECT * FROM app.v", "SELECT other.f()"} {
				if _, err := conn.Exec(t.Context(), sql); pgCode(err) != "42501" {
					t.Errorf("%s: %s: %v", session.name, sql, err)
				}
			}
		}
		mustExec(t, conn, "BEGIN")
		if _, err := l.LingersOn(t.Context(), "nobody"); err == nil {
			t.Error("nothing was lost with a bundle that does not exist")
		}
		mustExec(t, conn, "ROLLBACK")
		if err := l.Strip(t.Context(), most.Role()); err != nil {
			t.Fatal(err)
		}
		w.check(t, "stripped", alice, active(w.name("reader")))
		if err := l.Strip(t.Context(), most.Role()); err != nil {
			t.Errorf("stripped twice: %v", err)
		}
		move(most)
		if err := l.Strip(t.Context(), all.Role()); err != nil {
			t.Fatal(err)
		}
		w.check(t, "stripped of what another session has left", alice, active(sorted(w.name("reader"), most.Role())...))
		w.logout(t, conn)
		release(t, l, provision.Deactivated)
	})
}

// TestHandmadeGrantIsLost: a session reads what somebody granted to its bundle by hand, which another agent
// takes away before anybody here has seen it.
func TestHandmadeGrantIsLost(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)", "CREATE TABLE secret AS SELECT generate_series(1, 1000) AS n")
		w.letGrant(t, "app")
		want := w.bundleWant("some", give(func(o access.Object) []string {
			if o.Name != "t1" {
				return nil
			}
			return []string{"SELECT"}
		}))
		s, alice := w.agent(t), w.name("alice")
		account := w.want(alice, provision.Keep, w.name("reader"))
		account.Bundle = bundle(t, s, want).Role()
		l := activate(t, s, account)
		conn := w.login(t, l)
		establish(t, l, conn.PgConn())
		w.exec(t, "SET ROLE %s", w.admin)
		w.exec(t, "GRANT SELECT ON app.secret TO %s", account.Bundle)
		w.exec(t, "RESET ROLE")
		mustExec(t, conn, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM app.secret")

		var lost provision.Loss
		other := w.agent(t, func(c *provision.Config) {
			c.BundleNarrowed = func(role string, l provision.Loss) {
				if role != account.Bundle {
					t.Errorf("bundle %s has lost something", role)
				}
				lost = lost.And(l)
			}
		})
		bundle(t, other, want)
		mustExec(t, conn, "FETCH 1 FROM c")
		if lingers, err := l.Lingers(t.Context(), lost); !lingers || err != nil {
			t.Errorf("with a cursor: lingers %t, %v", lingers, err)
		}
		mustExec(t, conn, "ROLLBACK; BEGIN; SELECT * FROM app.t1")
		if lingers, err := l.Lingers(t.Context(), lost); lingers || err != nil {
			t.Errorf("without one: lingers %t, %v", lingers, err)
		}
		mustExec(t, conn, "COMMIT")
		w.logout(t, conn)
		release(t, l, provision.Deactivated)
	})
}
