package provision_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// serve runs the background work of an agent until the test ends.
func serve(t *testing.T, s *provision.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
}

// onOwnServers runs a test that sweeps, and so would find what other tests leave
// open, on servers of its own.
func onOwnServers(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, version := range pgtest.Versions(t) {
		admin := limitedAdmin
		if version == pgtest.Newest(t) {
			admin = superAdmin
		}
		t.Run(fmt.Sprintf("%d/%s", version, admin), func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, pgtest.Start(t, pgtest.Options{Version: version}), admin))
		})
	}
}

// TestBundleFollowsSchema while it is in use, and is dropped when it is not.
func TestBundleFollowsSchema(t *testing.T) {
	t.Parallel()
	onOwnServers(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)")
		w.letGrant(t, "app")
		w.exec(t, "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT ALL ON TABLES TO %s WITH GRANT OPTION", limitedAdmin)
		changes := make(chan provision.BundleChange, 100)
		s := w.agent(t, func(c *provision.Config) {
			c.BundleInterval, c.BundleChanged = 5*time.Millisecond, func(change provision.BundleChange) { changes <- change }
		})
		serve(t, s)
		b := bundle(t, s, w.bundleWant("read", readTables("app")))
		w.exec(t, "CREATE TABLE app.t2 (n int)")
		if change := <-changes; change.Err != nil || change.Role != b.Role() || change.Result.Objects["table"] != 2 {
			t.Errorf("new table: %+v", change)
		}
		w.checkGrants(t, b.Role(), "SELECT app.t1", "SELECT app.t2", "USAGE schema app")
		w.exec(t, "ALTER TABLE app.t1 RENAME TO t3")
		w.exec(t, "ALTER TABLE app.t2 SET SCHEMA public")
		if change := <-changes; change.Err != nil {
			t.Errorf("moved table: %+v", change)
		}
		w.checkGrants(t, b.Role(), "SELECT app.t3", "USAGE schema app")
		w.exec(t, "CREATE TABLE app.t4 (n int)")
		if change := <-changes; change.Err != nil {
			t.Errorf("new table: %+v", change)
		}
		w.exec(t, "REVOKE ALL ON app.t4 FROM %s CASCADE", limitedAdmin)
		if w.admin == limitedAdmin {
			if change := <-changes; fault.KindOf(change.Err) != fault.Denied {
				t.Errorf("lost grant option: %+v", change)
			}
		}
	})
}

// TestUnusedBundleIsDropped, in whatever database it is, when nobody holds it and
// it has not been used for a while.
func TestUnusedBundleIsDropped(t *testing.T) {
	t.Parallel()
	onOwnServers(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)")
		w.letGrant(t, "app")
		made := w.agent(t)
		unused, held := bundle(t, made, w.bundleWant("unused", readTables("app"))), bundle(t, made, w.bundleWant("held", readTables("app")))
		want := w.want(w.name("alice"), provision.Keep)
		want.Bundle = held.Role()
		l := activate(t, made, want)
		conn := w.login(t, l)

		s := w.agent(t, func(c *provision.Config) {
			c.BundleInterval, c.SweepInterval, c.BundleUnused, c.DefaultDatabase = 5*time.Millisecond, 10*time.Millisecond, time.Nanosecond, "postgres"
		})
		used := bundle(t, s, w.bundleWant("used", readTables("app")))
		serve(t, s)
		eventually(t, "the unused bundle is gone", func() bool { return !w.account(t, unused.Role()).Exists })
		w.checkGrants(t, used.Role(), "SELECT app.t1", "USAGE schema app")
		w.checkGrants(t, held.Role(), "SELECT app.t1", "USAGE schema app")
		w.logout(t, conn)
		release(t, l, provision.Deactivated)
		eventually(t, "the other bundle is gone too", func() bool { return !w.account(t, held.Role()).Exists })
		w.checkGrants(t, used.Role(), "SELECT app.t1", "USAGE schema app")
	})
}

// TestBundleGone tells a session whose bundle was dropped to ask for it again.
func TestBundleGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), superAdmin)
	s := w.agent(t)
	b := bundle(t, s, w.bundleWant("read", readTables("app")))
	w.exec(t, "DROP ROLE %s", b.Role())
	want := w.want(w.name("alice"), provision.Drop)
	want.Bundle = b.Role()
	if _, err := s.Activate(t.Context(), want); err == nil || !strings.Contains(fault.Chain(err), provision.ErrBundleGone.Error()) {
		t.Errorf("activate: %v", err)
	}
	bundle(t, s, w.bundleWant("read", readTables("app")))
	release(t, activate(t, s, want), provision.Dropped)
}

// TestManyTablesAndAgents has several agents build overlapping bundles of 2,000
// tables at once, while tables come and go.
func TestManyTablesAndAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, 16), limitedAdmin)
	w.exec(t, "CREATE SCHEMA app")
	w.exec(t, `DO $$ BEGIN FOR i IN 1..2000 LOOP EXECUTE format('CREATE TABLE app.t%%s (n int)', i); END LOOP; END $$`)
	w.letGrant(t, "app")
	w.exec(t, "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT ALL ON TABLES TO %s WITH GRANT OPTION", limitedAdmin)
	var group errgroup.Group
	agents := []*provision.Server{w.agent(t), w.agent(t)}
	for i := range 4 {
		group.Go(func() error {
			b, err := agents[i%2].Bundle(t.Context(), w.bundleWant(fmt.Sprint(i/2), readTables("app")))
			if err == nil {
				defer b.Release()
			}
			return err
		})
	}
	for i := range 10 {
		sql := fmt.Sprintf("DROP TABLE app.t%d; CREATE TABLE app.n%d (n int)", i+1, i)
		_, err := w.dba.Exec(t.Context(), sql)
		for pgCode(err) == "XX000" { // a GRANT on the table was faster: it takes no lock that would make us wait
			_, err = w.dba.Exec(t.Context(), sql)
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(fault.Chain(err))
	}
	b := bundle(t, w.agent(t), w.bundleWant("0", readTables("app")))
	if got := len(w.grants(t, b.Role())); got != 2001 {
		t.Errorf("%d grants, want 2001", got)
	}
}

// TestCurrentBundleCostsNothing: no statement is sent for a bundle that was
// verified a moment ago.
func TestCurrentBundleCostsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), superAdmin)
	var connects int
	s := w.agent(t, func(c *provision.Config) {
		connect := c.Connect
		c.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			connects++
			return connect(ctx, database)
		}
	})
	want := w.bundleWant("read", readTables("public"))
	bundle(t, s, want).Release()
	if err := s.Close(t.Context()); err != nil { // and so every look would need a new connection
		t.Fatal(err)
	}
	bundle(t, s, want)
	if connects != 1 {
		t.Errorf("%d connections, want 1", connects)
	}
}
