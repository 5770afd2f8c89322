package provision_test

import (
	"testing"

	"github.com/postern-db/postern/internal/provision"
)

// TestNothingOfTheOwnSurvives: what a person does to the own account during a
// session must not open a door past the gateway.
func TestNothingOfTheOwnSurvives(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice, mallory := w.agent(t), w.name("alice"), w.name("mallory")
		w.exec(t, "CREATE ROLE %s LOGIN", mallory)
		l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		conn := w.login(t, l)
		if _, err := conn.Exec(t.Context(), "ALTER ROLE "+q(alice)+" PASSWORD 'mine'"); err != nil {
			t.Fatal(err)
		}
		_, err := conn.Exec(t.Context(), "GRANT "+q(alice)+" TO "+q(mallory)) // PostgreSQL before 15 allows it
		t.Logf("GRANT of the own account on %d: %v", w.pg.Version, err)
		w.logout(t, conn)
		release(t, l, provision.Deactivated)
		var password *string
		var members int
		err = w.dba.QueryRow(t.Context(), `SELECT rolpassword, (SELECT count(*) FROM pg_auth_members m WHERE m.roleid = a.oid AND m.member = $2::regrole)
			FROM pg_authid a WHERE rolname = $1`, alice, q(mallory)).Scan(&password, &members)
		if err != nil {
			t.Fatal(err)
		}
		if password != nil {
			t.Error("the password survives the release")
		}
		if members != 0 {
			t.Error("somebody else keeps the account's rights")
		}
	})
}
