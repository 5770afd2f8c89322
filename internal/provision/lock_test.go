package provision_test

import (
	"testing"

	"github.com/postern-db/postern/internal/pgtest"
)

// What docs/decisions/0002-provisioning-locks.md rests on: COMMENT ON ROLE takes a
// lock that every logical database shares, an advisory lock does not, and
// it writes nothing where there is no comment.
func TestAccountLockIsShared(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Shared(t, version), limitedAdmin)
			admin, ctx := w.pg.Connect(t, limitedAdmin, w.db), t.Context()
			for _, sql := range []string{
				"CREATE ROLE " + q(w.name("alice")), "BEGIN", "COMMENT ON ROLE " + q(w.name("alice")) + " IS NULL", "SELECT pg_advisory_xact_lock(7)",
			} {
				if _, err := admin.Exec(ctx, sql); err != nil {
					t.Fatal(err)
				}
			}
			// Only who writes gets a transaction id.
			var writes bool
			err := admin.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'transactionid' AND pid = pg_backend_pid()").Scan(&writes)
			if err != nil || writes {
				t.Errorf("the lock writes: %v, %v", writes, err)
			}

			other := w.pg.Connect(t, limitedAdmin, w.pg.Database(t))
			if _, err := other.Exec(ctx, "SET lock_timeout = '50ms'"); err != nil {
				t.Fatal(err)
			}
			for _, sql := range []string{"COMMENT ON ROLE " + q(w.name("alice")) + " IS NULL", "DROP ROLE " + q(w.name("alice"))} {
				if _, err := other.Exec(ctx, sql); pgCode(err) != "55P03" {
					t.Errorf("%s from another database: %v, want to wait", sql, err)
				}
			}
			var taken bool
			if err := other.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock(7)").Scan(&taken); err != nil || !taken {
				t.Errorf("advisory lock from another database: %v, %v, want no conflict", taken, err)
			}
		})
	}
}
