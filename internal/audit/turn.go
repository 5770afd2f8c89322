package audit

import (
	"sync/atomic"
	"time"
)

// atOnce is how many events are worked on before others may have the processor: 30 to
// 60 µs.
const atOnce = 32

// turns lets other threads have the processor now and then. Linux does not take it away
// from a thread that has worked for less than about 3 ms, not even for one that was just
// woken up, and while another processor is idle: a burst of ours would hold up PostgreSQL
// and sessions for as long as it lasts.
//
// Where they need much of it themselves, each turn of theirs is long. What one took is
// ours before the next one, so at least half of the time is.
type turns struct {
	begun  time.Time
	events atomic.Int64 // that were worked on
	next   atomic.Int64 // ns since begun: no turn before
}

// worked counts an event, and gives the processor away for a turn when one is due.
func (t *turns) worked() {
	if t.events.Add(1)%atOnce != 0 {
		return
	}
	if start := time.Since(t.begun); t.due(start) {
		yield()
		t.gave(start, time.Since(t.begun))
	}
}

// due reports whether others may have a turn now.
func (t *turns) due(now time.Duration) bool { return int64(now) >= t.next.Load() }

// gave notes a turn of others.
func (t *turns) gave(start, end time.Duration) { t.next.Store(int64(end + (end - start))) }
