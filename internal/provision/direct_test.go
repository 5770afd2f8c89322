package provision_test

import (
	"testing"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// TestDirectGrantsAreRemoved from managed accounts, and from nobody else.
func TestDirectGrantsAreRemoved(t *testing.T) {
	t.Parallel()
	onOwnServers(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)", "CREATE TABLE t2 (n int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
		w.letGrant(t, "app")
		changes := make(chan provision.BundleChange, 10)
		s := w.agent(t, func(c *provision.Config) {
			c.BundleInterval, c.SweepInterval, c.BundleChanged = 5*time.Millisecond, 10*time.Millisecond, func(change provision.BundleChange) { changes <- change }
		})
		b := bundle(t, s, w.bundleWant("read", readTables("app")))
		want := w.want(w.name("alice"), provision.Keep)
		want.Bundle = b.Role()
		l := activate(t, s, want)
		w.exec(t, "CREATE ROLE %s", w.name("bystander"))
		admin := w.adminConn(t)
		for _, user := range []string{want.User, w.name("bystander")} {
			mustExec(t, admin, "GRANT USAGE ON SCHEMA app TO "+q(user))
			mustExec(t, admin, "GRANT SELECT, INSERT ON app.t1 TO "+q(user))
			mustExec(t, admin, "GRANT EXECUTE ON FUNCTION app.f() TO "+q(user))
		}
		serve(t, s)
		if change := <-changes; change.Err != nil || change.User != want.User || change.Database != w.db {
			t.Errorf("%+v", change)
		}
		w.checkGrants(t, want.User)
		w.checkGrants(t, w.name("bystander"), "USAGE schema app", "SELECT app.t1", "INSERT app.t1", "EXECUTE app.f()")
		w.check(t, "all the same", want.User, active(b.Role()))
		if w.admin == limitedAdmin { // and of another grantor
			w.exec(t, "GRANT DELETE ON app.t2 TO %s", want.User)
			if change := <-changes; fault.KindOf(change.Err) != fault.Conflict {
				t.Errorf("%+v", change)
			}
		}
		release(t, l, provision.Deactivated)
	})
}
