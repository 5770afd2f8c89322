package provision_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// benchmark runs on the distribution's server, with a disk that is waited for,
// as in production.
func benchmark(b *testing.B) (*world, *provision.Server) {
	b.Helper()
	w := newWorld(b, pgtest.Start(b, pgtest.Options{Settings: map[string]string{"fsync": "on", "full_page_writes": "on"}}), limitedAdmin)
	s := w.agent(b)
	if err := s.Warm(b.Context(), w.db); err != nil {
		b.Fatal(err)
	}
	return w, s
}

// BenchmarkActivateAsWanted is every session of a user but the first.
func BenchmarkActivateAsWanted(b *testing.B) {
	w, s := benchmark(b)
	want := w.want("alice", provision.Keep, w.names("reader", "writer")...)
	activate(b, s, want)
	for b.Loop() {
		release(b, activate(b, s, want), provision.StillActive)
	}
}

// BenchmarkActivateAndRelease is the only session of a user.
func BenchmarkActivateAndRelease(b *testing.B) {
	for _, mode := range []provision.Mode{provision.Keep, provision.Drop} {
		b.Run(mode.String(), func(b *testing.B) {
			w, s := benchmark(b)
			want := w.want("alice", mode, w.names("reader", "writer")...)
			after := provision.Deactivated
			if mode == provision.Drop {
				after = provision.Dropped
			}
			var activating int64
			for b.Loop() {
				l := activate(b, s, want)
				activating += l.Result().Duration.Nanoseconds()
				release(b, l, after)
			}
			b.ReportMetric(float64(activating)/float64(b.N), "activate-ns/op")
		})
	}
}

// BenchmarkManyUsers is a crowd of people who come and go.
func BenchmarkManyUsers(b *testing.B) {
	w, s := benchmark(b)
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		want := w.want(fmt.Sprint("user", n.Add(1)), provision.Keep, w.names("reader", "writer")...)
		for pb.Next() {
			release(b, activate(b, s, want), provision.Deactivated)
		}
	})
}
