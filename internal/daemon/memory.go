package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryInterval is how often the memory of the process is looked at.
	memoryInterval = 10 * time.Second
	// heapRoom is by how much the heap may grow between two collections. Each
	// connection leaves a few hundred kilobytes of handshakes behind, so that with Go's
	// default a gateway with few sessions would collect all the time.
	heapRoom = 64 << 20
	// The bounds of that, in percent of what lives: with thousands of sessions the heap
	// may grow by half.
	maxGCPercent, minGCPercent = 400, 50
	// restAllocation is what a process at rest may allocate in an interval: health
	// checks, sweeps, and sessions that only relay, which allocate nothing.
	restAllocation = 4 << 20
	// restGain is the part of the live heap that must have been allocated since memory was
	// last given back, so that the work is worth it.
	restGain = 4
)

// tuneMemory keeps the heap in proportion to what lives in it, and gives memory
// back to the system when the process comes to rest, until ctx ends.
func tuneMemory(ctx context.Context) {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	debug.SetGCPercent(maxGCPercent)
	var r rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
		metrics.Read(samples)
		allocated, live := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		debug.SetGCPercent(gcPercent(live))
		if r.begins(allocated, live) {
			debug.FreeOSMemory()
		}
	}
}

// gcPercent returns by how much of the live heap it may grow between collections.
func gcPercent(live uint64) int {
	return int(min(max(100*heapRoom/max(live, 1), minGCPercent), maxGCPercent))
}

// rest tells when a process comes to rest.
type rest struct {
	last  uint64 // bytes allocated by the time of the last look
	given uint64 // and when memory was last given back
}

// begins reports whether the process is at rest and has memory to give back.
// allocated is all that it ever allocated, live what the last collection left.
func (r *rest) begins(allocated, live uint64) bool {
	since := allocated - r.last
	r.last = allocated
	if since > restAllocation || allocated-r.given < max(live/restGain, restAllocation) {
		return false
	}
	r.given = allocated
	return true
}
