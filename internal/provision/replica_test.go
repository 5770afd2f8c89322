package provision_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// replicated is a world whose sessions run on a replica.
type replicated struct {
	*world
	replica *pgtest.Server
}

func newReplicated(t *testing.T, version int, prepare ...string) *replicated {
	t.Helper()
	pg := pgtest.Start(t, pgtest.Options{Version: version})
	w := newWorld(t, pg, limitedAdmin)
	for _, sql := range prepare {
		w.exec(t, strings.ReplaceAll(sql, "%", "%%"))
	}
	_ = w.dba.Close(t.Context()) // the server is about to be stopped
	r := &replicated{world: w, replica: pg.Replica(t, nil)}
	w.dba = pg.Superuser(t, w.db)
	return r
}

func (r *replicated) server(t *testing.T, patience time.Duration) *provision.Server {
	t.Helper()
	return r.agent(t, func(c *provision.Config) { c.Replicas, c.ReplayTimeout = true, patience })
}

// await waits for the replica as an agent does.
func (r *replicated) await(t *testing.T, l *provision.Lease) error {
	t.Helper()
	cfg := r.replica.Config(t, r.admin, r.db)
	cfg.Host = r.replica.Host
	conn, err := pgconn.ConnectConfig(t.Context(), &cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if replica, err := provision.InRecovery(t.Context(), conn); err != nil || !replica {
		t.Errorf("the replica is not known as one: %v, %v", replica, err)
	}
	if err := provision.PrepareReplica(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return l.Await(t.Context(), conn)
}

// logs in on the replica, where the account must be ready.
func (r *replicated) mustLogIn(t *testing.T, user string) {
	t.Helper()
	conn := r.replica.Connect(t, user, r.db)
	var roles int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = $1`, user).Scan(&roles); err != nil || roles != 2 {
		t.Errorf("%s holds %d roles on the replica, want reader and the group (%v)", user, roles, err)
	}
	_ = conn.Close(t.Context())
}

func (r *replicated) setDelay(t *testing.T, delay string) {
	t.Helper()
	r.replica.Exec(t, "ALTER SYSTEM SET recovery_min_apply_delay = '"+delay+"'", "SELECT pg_reload_conf()")
}

func TestAwaitReplica(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		if version > 13 && version < 18 {
			continue // the ends differ in how a replica is known
		}
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			r := newReplicated(t, version)
			alice, bob := r.name("alice"), r.name("bob")
			patient, hasty := r.server(t, time.Minute), r.server(t, 200*time.Millisecond)

			l := activate(t, patient, r.want(alice, provision.Keep, r.name("reader")))
			if err := r.await(t, l); err != nil {
				t.Fatal(err)
			}
			r.mustLogIn(t, alice)

			r.setDelay(t, "1h")
			late := activate(t, hasty, r.want(bob, provision.Keep, r.name("reader")))
			err := r.await(t, late)
			f := fault.Of(err)
			if !errors.Is(err, provision.ErrBehind) || f.Kind != fault.Unavailable ||
				!strings.Contains(f.Detail, "bytes of WAL are missing") || !strings.Contains(f.Hint, "recovery_min_apply_delay") {
				t.Errorf("behind by an hour: %v, %q, %q", err, f.Detail, f.Hint)
			}
			r.setDelay(t, "0")
			eventually(t, "the replica has caught up", func() bool { return r.await(t, late) == nil })
			r.mustLogIn(t, bob)

			r.replica.Exec(t, "SELECT pg_wal_replay_pause()")
			release(t, late, provision.Deactivated)
			late = activate(t, hasty, r.want(bob, provision.Keep, r.name("reader")))
			// The account of the former session is to be seen there, and is not enough.
			err = r.await(t, late)
			if f := fault.Of(err); !errors.Is(err, provision.ErrBehind) || !strings.Contains(f.Hint, "pg_wal_replay_resume") {
				t.Errorf("paused: %v, %q", err, f.Hint)
			}
			r.replica.Exec(t, "SELECT pg_wal_replay_resume()")
			eventually(t, "the replica has caught up", func() bool { return r.await(t, late) == nil })
			r.mustLogIn(t, bob)
			release(t, late, provision.Deactivated)
			release(t, l, provision.Deactivated)
		})
	}
}

// TestAwaitReplicaWithoutWAL: Aurora does not say how far its replicas are.
func TestAwaitReplicaWithoutWAL(t *testing.T) {
	t.Parallel()
	r := newReplicated(t, pgtest.Newest(t),
		"SET allow_system_table_mods = on",
		"ALTER FUNCTION pg_catalog.pg_current_wal_flush_lsn() RENAME TO real_flush_lsn",
		`CREATE FUNCTION pg_catalog.pg_current_wal_flush_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'Function pg_current_wal_flush_lsn() is currently not supported for Aurora' USING ERRCODE = '0A000'; END $$`)
	s := r.server(t, time.Minute)
	alice := r.name("alice")
	r.setDelay(t, "100ms")
	l := activate(t, s, r.want(alice, provision.Keep, r.name("reader")))
	if err := r.await(t, l); err != nil {
		t.Fatal(err)
	}
	r.mustLogIn(t, alice)

	// The account alone is not enough for a login with a password.
	_, done, err := l.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.await(t, l); err != nil {
		t.Fatal(err)
	}
	var open bool
	conn := r.replica.Superuser(t, r.db)
	if err := conn.QueryRow(t.Context(), "SELECT rolpassword IS NOT NULL AND rolvaliduntil > now() FROM pg_authid WHERE rolname = $1", alice).Scan(&open); err != nil || !open {
		t.Errorf("the replica is ready without the password: open %t, %v", open, err)
	}
	_ = conn.Close(t.Context())
	if err := done(t.Context()); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Deactivated)
}
