package provision_test

import (
	"testing"

	"github.com/postern-db/postern/internal/provision"
)

// TestMovedToAnotherBundle: a session without a transaction has the new rights and no
// others; one that could go on to use the old ones is told apart.
func TestMovedToAnotherBundle(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 AS SELECT generate_series(1, 1000) AS n")
		w.newSchema(t, "other", "CREATE TABLE t2 (n int)")
		w.letGrant(t, "app")
		w.letGrant(t, "other")
		s, alice := w.agent(t), w.name("alice")
		before, after := bundle(t, s, w.bundleWant("before", readTables("app"))), bundle(t, s, w.bundleWant("after", readTables("other")))
		want := w.want(alice, provision.Keep, w.name("reader"))
		want.Bundle = before.Role()
		l := activate(t, s, want)
		conn := w.login(t, l)
		if sure, err := l.Established(t.Context(), conn.PgConn().PID()); !sure || err != nil {
			t.Fatal(sure, err)
		}
		mustExec(t, conn, "SELECT * FROM app.t1")
		if changed, err := l.Converge(t.Context(), want.Roles, after.Role()); !changed || err != nil {
			t.Fatal(changed, err)
		}
		w.check(t, "moved", alice, active(sorted(w.name("reader"), after.Role())...))
		for _, moved := range []bool{false, true} {
			if lingers, err := l.Lingers(t.Context(), moved); err != nil || lingers != (moved && w.pg.Version < 16) {
				t.Errorf("an idle session, moved %t: lingers %t, %v", moved, lingers, err)
			}
		}
		mustExec(t, conn, "SELECT * FROM other.t2")
		if _, err := conn.Exec(t.Context(), "SELECT * FROM app.t1"); pgCode(err) != "42501" {
			t.Errorf("the former table: %v", err)
		}

		mustExec(t, conn, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM other.t2")
		if _, err := l.Converge(t.Context(), want.Roles, ""); err != nil {
			t.Fatal(err)
		}
		w.check(t, "without a bundle", alice, active(w.name("reader")))
		mustExec(t, conn, "FETCH 1 FROM c") // as PostgreSQL has it
		if lingers, err := l.Lingers(t.Context(), false); !lingers || err != nil {
			t.Errorf("an open cursor: lingers %t, %v", lingers, err)
		}
		mustExec(t, conn, "COMMIT")
		if lingers, err := l.Lingers(t.Context(), false); lingers || err != nil {
			t.Errorf("after it: lingers %t, %v", lingers, err)
		}
		w.logout(t, conn)
		release(t, l, provision.Deactivated)
	})
}
