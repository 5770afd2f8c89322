package provision

import "sync/atomic"

// Stats counts what a Server has done since it was made.
type Stats struct {
	Sweeps       int64
	FailedSweeps int64 // those that left something to be done soon
	Retries      int64 // of work that collided with somebody else's change, or met a dead connection
	Bundles      int   // that sessions here use, or did not long ago
}

// counters are the parts of [Stats] that only grow.
type counters struct{ sweeps, failedSweeps, retries atomic.Int64 }

// Stats returns the counts as they are now.
func (s *Server) Stats() Stats {
	return Stats{
		Sweeps: s.counters.sweeps.Load(), FailedSweeps: s.counters.failedSweeps.Load(), Retries: s.counters.retries.Load(),
		Bundles: s.bundles.count(),
	}
}
