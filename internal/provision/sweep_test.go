package provision_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// ownServer runs a test on servers of its own, since a sweep looks at every account.
func ownServer(t *testing.T, admin string, test func(t *testing.T, w *world)) {
	t.Helper()
	onServers(t, pgtest.Versions(t), admin, test)
}

// onServers is ownServer for some versions.
func onServers(t *testing.T, versions []int, admin string, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, version := range versions {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, pgtest.Start(t, pgtest.Options{Version: version}), admin))
		})
	}
}

// An agent dies with sessions open: its leases are forgotten. The next one finds
// what it left, and leaves everything else alone.
func TestSweepAfterACrash(t *testing.T) {
	t.Parallel()
	ownServer(t, limitedAdmin, sweepAfterACrash)
}

func sweepAfterACrash(t *testing.T, w *world) {
	crashed := w.agent(t)
	roles := w.names("reader", "writer")
	activate(t, crashed, w.want("kept", provision.Keep, roles...))
	activate(t, crashed, w.want("dropped", provision.Drop, roles...))
	activate(t, crashed, w.want("owner", provision.Drop, roles...))
	w.exec(t, "CREATE SCHEMA s AUTHORIZATION %s", "owner")
	// Half a release: login is gone, the roles are not.
	activate(t, crashed, w.want("half", provision.Keep, roles...))
	w.exec(t, "ALTER ROLE half NOLOGIN")
	// A session that goes on: its network is fine, only its agent is gone.
	busy := w.login(t, activate(t, crashed, w.want("busy", provision.Keep, roles...)))

	s := w.agent(t)
	activate(t, s, w.want("starting", provision.Keep, roles...)) // not logged in yet
	w.exec(t, "CREATE ROLE stranger LOGIN")
	w.exec(t, "GRANT %s TO stranger", w.name("reader"))
	stranger := w.rows(t, "stranger")

	outcomes, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]provision.Released{}
	for _, out := range outcomes {
		if out.Err != nil {
			t.Errorf("%s: %v", out.User, out.Err)
		}
		got[out.User] = out.Result
	}
	want := map[string]provision.Released{
		"kept": provision.Deactivated, "dropped": provision.Dropped, "owner": provision.Deactivated, "half": provision.Deactivated,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes differ (-want +got):\n%s", diff)
	}
	w.check(t, "swept", "kept", disabled())
	w.check(t, "swept", "half", disabled())
	w.check(t, "swept", "owner", disabled())
	w.check(t, "swept", "dropped", gone())
	w.check(t, "swept", "busy", active(roles...))
	w.check(t, "swept", "starting", active(roles...))
	if admin := w.account(t, limitedAdmin); !admin.Login || !admin.Group || !slices.Contains(admin.Roles, w.name("reader")) {
		t.Errorf("the admin has changed: %+v", admin)
	}
	if diff := cmp.Diff(stranger, w.rows(t, "stranger")); diff != "" {
		t.Errorf("a stranger has changed:\n%s", diff)
	}

	w.logout(t, busy)
	if outcomes, err = s.Sweep(t.Context()); err != nil || len(outcomes) != 1 || outcomes[0].User != "busy" {
		t.Errorf("second sweep: %+v, %v, want busy only", outcomes, err)
	}
	w.exec(t, "DROP SCHEMA s")
	if outcomes, err = s.Sweep(t.Context()); err != nil || len(outcomes) != 0 {
		t.Errorf("third sweep: %+v, %v, want nothing: the owner is not tried again so soon", outcomes, err)
	}
}

// Without a group there is nothing of ours.
func TestSweepOfAFreshServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{}), superAdmin)
	w.exec(t, "DROP ROLE %s", provision.Group)
	s := w.agent(t, func(c *provision.Config) { c.DefaultDatabase = "" })
	if outcomes, err := s.Sweep(t.Context()); err != nil || len(outcomes) != 0 {
		t.Errorf("sweep: %+v, %v, want nothing", outcomes, err)
	}
	// The group is made when it is needed.
	l := activate(t, s, w.want("alice", provision.Keep))
	w.check(t, "during", "alice", active())
	release(t, l, provision.Deactivated)
}

// The group made by a CREATEROLE admin: since version 16 that makes the admin a member.
func TestAdminMakesTheGroup(t *testing.T) {
	t.Parallel()
	ownServer(t, limitedAdmin, func(t *testing.T, w *world) {
		w.exec(t, "DROP ROLE %s", provision.Group)
		s := w.agent(t)
		l := activate(t, s, w.want("alice", provision.Keep, w.name("reader")))
		before := w.rows(t, limitedAdmin)
		if err := sweep(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, w.rows(t, limitedAdmin)); diff != "" {
			t.Errorf("the sweep has changed the admin:\n%s", diff)
		}
		release(t, l, provision.Deactivated)
		w.check(t, "after", "alice", disabled())
	})
}

// Serve sweeps when the server comes back, without anybody logging in.
func TestServeSweepsWhenTheServerIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{}), limitedAdmin)
	activate(t, w.agent(t), w.want("alice", provision.Keep, w.name("reader"))) // and crash
	w.exec(t, "CHECKPOINT")                                                    // activations are not flushed at once
	w.pg.Kill(t)

	var (
		mu     sync.Mutex
		failed int
		swept  []string
	)
	s := w.agent(t, func(c *provision.Config) {
		connect := c.Connect
		c.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			conn, err := connect(ctx, database)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			}
			return conn, err
		}
		c.Swept = func(out provision.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			swept = append(swept, out.User+" "+out.Result.String())
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the sweep has failed", func() bool { mu.Lock(); defer mu.Unlock(); return failed > 0 })
	w.pg.Restart(t)
	eventually(t, "the account is released", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Equal(swept, []string{"alice deactivated"}) })
	cancel()
	serving.Wait()
	w.dba = w.pg.Superuser(t, "postgres")
	w.check(t, "after", "alice", disabled())
}

// A warm connection that died meanwhile costs nothing but a new one.
func TestDeadWarmConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{}), limitedAdmin)
	s := w.agent(t)
	if err := s.Warm(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w.exec(t, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '"+limitedAdmin+"'")
	l := activate(t, s, w.want("alice", provision.Keep, w.name("reader")))

	w.pg.Restart(t)
	w.dba = w.pg.Superuser(t, w.db)
	w.check(t, "during", "alice", active(w.name("reader")))
	release(t, l, provision.Deactivated)
	w.check(t, "after", "alice", disabled())
}

// A release that cannot reach the server says so, and can be called again.
func TestReleaseWithoutServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{}), limitedAdmin)
	s := w.agent(t)
	l := activate(t, s, w.want("alice", provision.Keep, w.name("reader")))
	w.pg.Stop(t)
	if _, err := l.Release(t.Context()); err == nil {
		t.Error("release without a server: no error")
	}
	w.pg.Restart(t)
	release(t, l, provision.Deactivated)
	w.dba = w.pg.Superuser(t, w.db)
	w.check(t, "after", "alice", disabled())
}

// A backend whose client is gone, but which PostgreSQL still lists, does not keep
// the rights alive.
func TestReleaseDoesNotWaitForALostBackend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), limitedAdmin)
	s, alice := w.agent(t), w.name("alice")
	l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
	conn := w.login(t, l)
	establish(t, l, conn.PgConn())
	release(t, l, provision.Deactivated)
	w.check(t, "after", alice, disabled())
	w.logout(t, conn)
}

func TestDeadlineIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), limitedAdmin)
	s := w.agent(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Activate(ctx, w.want(w.name("alice"), provision.Keep))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	w.check(t, "after", w.name("alice"), gone())
}

// What the admin may not revoke stays, without login; it is reported once, with the
// SQL that repairs it.
func TestSweepOfWhatTheAdminMayNotRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{Version: 16}), limitedAdmin)
	reports := make(chan provision.Outcome, 100)
	s := w.agent(t, func(c *provision.Config) {
		c.SweepInterval = time.Millisecond
		c.Swept = func(out provision.Outcome) { reports <- out }
	})
	activate(t, w.agent(t), w.want("alice", provision.Keep, w.name("reader"))) // and crash
	w.exec(t, "GRANT %s TO alice", w.name("writer"))
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	hint := refused(t, (<-reports).Err, fault.Conflict, "42501", "REVOKE")
	w.check(t, "swept", "alice", account{Exists: true, Group: true, Roles: w.names("writer")})
	w.repair(t, hint)
	w.check(t, "repaired", "alice", disabled())
	cancel()
	serving.Wait()
	close(reports)
	for out := range reports { // of the sweep that raced with the repair, if any
		if out.Err != nil {
			t.Errorf("reported again: %v", out.Err)
		}
	}
}
