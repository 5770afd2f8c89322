package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restInterval is how often it is looked whether the process is at rest.
	restInterval = 10 * time.Second
	// restAllocation is what a process at rest may allocate in that time: health
	// checks, sweeps, and sessions that only relay, which allocate nothing.
	restAllocation = 4 << 20
	// restGain is the part of the live heap that must have been allocated since memory was
	// last given back, so that the work is worth it.
	restGain = 4
)

// giveBack returns memory to the system once the process has come to rest, until
// ctx ends. By itself Go keeps twice as much as is in use; with thousands of
// sessions that wait, that is most of what the process holds.
func giveBack(ctx context.Context) {
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	var r rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
		metrics.Read(samples)
		if r.begins(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
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
