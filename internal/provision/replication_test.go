package provision_test

import (
	"context"
	"testing"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// replicates reports whether the role has the attribute.
func (w *world) replicates(t testing.TB, user string) bool {
	t.Helper()
	var has bool
	if err := w.dba.QueryRow(t.Context(), "SELECT COALESCE((SELECT rolreplication FROM pg_roles WHERE rolname = $1), false)", user).Scan(&has); err != nil {
		t.Fatal(err)
	}
	return has
}

// replicationAdmin makes an admin of the test's own, with the least rights.
func (w *world) replicationAdmin(t testing.TB) {
	t.Helper()
	w.admin = w.name("admin")
	w.exec(t, "CREATE ROLE %s LOGIN CREATEROLE", w.admin)
	w.exec(t, "GRANT %s, %s TO %s WITH ADMIN OPTION", w.name("reader"), provision.Group, w.admin)
}

// TestReplicationAttribute: an account has it while a session needs it, and no
// other session of the person has it meanwhile.
func TestReplicationAttribute(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		w := newWorld(t, pgtest.Shared(t, version), superAdmin)
		if version >= 16 {
			w.replicationAdmin(t)
		}
		s, alice := w.agent(t), w.name("alice")
		want := w.want(alice, provision.Keep, w.name("reader"))
		want.Replication = true
		if version >= 16 {
			_, err := s.Activate(t.Context(), want)
			w.repair(t, refused(t, err, fault.Denied, "42501", "run as superuser: ALTER ROLE"))
		}
		replicating := activate(t, s, want)
		if replicating.User() != alice || !w.replicates(t, alice) {
			t.Errorf("%d: account %s replicates: %t", version, replicating.User(), w.replicates(t, alice))
		}
		want.Replication = false
		beside := activate(t, s, want)
		if beside.User() == alice || w.replicates(t, beside.User()) || !w.replicates(t, alice) {
			t.Errorf("%d: the session beside it is %s, which replicates: %t", version, beside.User(), w.replicates(t, beside.User()))
		}
		release(t, replicating, provision.Deactivated)
		release(t, beside, provision.Dropped)
		if w.replicates(t, alice) {
			t.Errorf("%d: a released account keeps the attribute", version)
		}
		w.exec(t, "ALTER ROLE %s REPLICATION", alice) // by hand
		plain := activate(t, s, want)
		if w.replicates(t, alice) {
			t.Errorf("%d: a plain session has an attribute given by hand", version)
		}
		release(t, plain, provision.Deactivated)
	}
}

// TestReplicationBefore16: only superusers may give the attribute there.
func TestReplicationBefore16(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, 15), limitedAdmin)
	want := w.want(w.name("alice"), provision.Keep)
	want.Replication = true
	_, err := w.agent(t).Activate(t.Context(), want)
	refused(t, err, fault.Denied, "42501", "CREATE ROLE replicator LOGIN REPLICATION;")
	w.check(t, "after", w.name("alice"), gone())
}

// TestReleaseWithoutReplication: an admin that has lost the attribute still
// disables the account; nobody logs in to it before that is repaired.
func TestReleaseWithoutReplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, max(16, pgtest.Newest(t))), limitedAdmin)
	w.replicationAdmin(t)
	w.exec(t, "ALTER ROLE %s REPLICATION", w.admin)
	s, want := w.agent(t), w.want(w.name("alice"), provision.Keep, w.name("reader"))
	want.Replication = true
	lease := activate(t, s, want)
	w.exec(t, "ALTER ROLE %s NOREPLICATION", w.admin)
	if out, err := lease.Release(context.Background()); err != nil || out.Result != provision.Deactivated {
		t.Errorf("release: %+v, %v", out, err)
	}
	w.check(t, "released", w.name("alice"), account{Exists: true, Group: true, Roles: []string{}})
	want.Replication = false
	_, err := s.Activate(t.Context(), want)
	w.repair(t, refused(t, err, fault.Denied, "42501", "run as superuser: ALTER ROLE"))
	release(t, activate(t, s, want), provision.Deactivated)
	if w.replicates(t, w.name("alice")) {
		t.Error("the attribute is still there")
	}
}
