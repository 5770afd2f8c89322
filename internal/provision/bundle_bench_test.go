package provision_test

import (
	"fmt"
	"testing"

	"github.com/postern-db/postern/internal/provision"
)

// manyTables makes 10,000 tables that the admin may grant on.
func manyTables(b *testing.B, w *world) {
	b.Helper()
	w.exec(b, "CREATE SCHEMA app")
	for range 10 { // each in a transaction of its own, for the sake of max_locks_per_transaction
		w.exec(b, `DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE app.%%I (n int)', gen_random_uuid()); END LOOP; END $$`)
	}
	w.exec(b, "GRANT USAGE ON SCHEMA app TO %s WITH GRANT OPTION", limitedAdmin)
	w.exec(b, "GRANT SELECT ON ALL TABLES IN SCHEMA app TO %s WITH GRANT OPTION", limitedAdmin)
	w.exec(b, "VACUUM ANALYZE pg_catalog.pg_class")
}

// BenchmarkConnectWithBundle is the only session of a user, without object
// permissions and with a bundle of 10,000 tables that is current.
func BenchmarkConnectWithBundle(b *testing.B) {
	w, s := benchmark(b)
	manyTables(b, w)
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("bundle=%v", with), func(b *testing.B) {
			want := w.want("alice", provision.Keep, w.names("reader", "writer")...)
			permissions := w.bundleWant("read", readTables("app"))
			if with {
				bundle(b, s, permissions)
			}
			for b.Loop() {
				if with {
					held, err := s.Bundle(b.Context(), permissions)
					if err != nil {
						b.Fatal(err)
					}
					defer held.Release()
					want.Bundle = held.Role()
				}
				l := activate(b, s, want)
				b.StopTimer()
				release(b, l, provision.Deactivated)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkBundle compares the work on a bundle of 10,000 tables with the
// cheapest that PostgreSQL itself can do.
func BenchmarkBundle(b *testing.B) {
	w, s := benchmark(b)
	manyTables(b, w)
	b.Run("grant on all tables", func(b *testing.B) {
		admin := w.pg.Connect(b, limitedAdmin, w.db)
		for b.Loop() {
			b.StopTimer()
			mustExec(b, admin, "CREATE ROLE plain")
			b.StartTimer()
			mustExec(b, admin, "GRANT SELECT ON ALL TABLES IN SCHEMA app TO plain")
			b.StopTimer()
			mustExec(b, admin, "REVOKE SELECT ON ALL TABLES IN SCHEMA app FROM plain; DROP ROLE plain")
			b.StartTimer()
		}
	})
	b.Run("first build", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			held := bundle(b, s, w.bundleWant(fmt.Sprint("build", n), readTables("app")))
			b.StopTimer()
			admin := w.pg.Connect(b, limitedAdmin, w.db)
			mustExec(b, admin, "REVOKE SELECT ON ALL TABLES IN SCHEMA app FROM "+q(held.Role())+"; REVOKE USAGE ON SCHEMA app FROM "+q(held.Role())+"; DROP ROLE "+q(held.Role()))
			b.StartTimer()
		}
	})
	b.Run("nothing changed", func(b *testing.B) {
		bundle(b, s, w.bundleWant("still", readTables("app")))
		for b.Loop() {
			b.StopTimer()
			fresh := w.agent(b) // knows nothing, so that everything is compared
			if err := fresh.Warm(b.Context(), w.db); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			bundle(b, fresh, w.bundleWant("still", readTables("app")))
		}
	})
}
