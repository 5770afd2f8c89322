package daemon

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryInterval is how often the memory of the process is looked at.
	memoryInterval = 10 * time.Second
	// heapRoom is by how much the heap may grow between two collections. Each
	// connection leaves 150 kilobytes of handshakes behind, so that with Go's default a
	// gateway with few sessions would collect all the time.
	heapRoom = 32 << 20
	// The bounds of that, in percent of what lives: with thousands of sessions the heap
	// may grow by a quarter. What sessions keep lies scattered over all that it has grown to, so that
	// most of it is not given back.
	maxGCPercent, minGCPercent = 400, 25
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
	percent := maxGCPercent
	debug.SetGCPercent(percent)
	collected := nextCollection()
	var r rest
	for {
		var allocated, live uint64
		select {
		case <-ctx.Done():
			return
		case <-collected:
			// Now, and not at the next tick: a crowd makes hundreds of sessions in a second.
			collected = nextCollection()
			_, live = heap()
		case <-ticker.C:
			if allocated, live = heap(); r.begins(allocated, live) {
				debug.FreeOSMemory()
			}
		}
		if p := gcPercent(live); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
	}
}

// nextCollection returns a channel that is closed when the heap was collected.
func nextCollection() <-chan struct{} {
	done := make(chan struct{})
	runtime.AddCleanup(new([64]byte), func(done chan struct{}) { close(done) }, done)
	return done
}

// heap returns how many bytes were ever allocated, and how many the last collection left.
func heap() (allocated, live uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
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
