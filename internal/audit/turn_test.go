package audit

import (
	"testing"
	"time"
)

// TestTurnsAreShared: whoever has waited for others has the processor for as long before
// they have it again.
func TestTurnsAreShared(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	var turn turns
	if !turn.due(0) {
		t.Error("the first one is not due")
	}
	turn.gave(10*ms, 13*ms)
	for now, want := range map[time.Duration]bool{13 * ms: false, 16*ms - 1: false, 16 * ms: true, 20 * ms: true} {
		if got := turn.due(now); got != want {
			t.Errorf("at %v, after a turn from 10 to 13 ms: due %v, want %v", now, got, want)
		}
	}
	turn.gave(20*ms, 20*ms)
	if !turn.due(20 * ms) {
		t.Error("nobody wanted the processor, and the next turn is not due")
	}
	turn = turns{begun: time.Now()}
	for range atOnce - 1 {
		turn.worked()
	}
	if turn.next.Load() != 0 {
		t.Error("a turn was given too early")
	}
	turn.worked()
	if turn.next.Load() == 0 {
		t.Error("a turn was not given, or not noted")
	}
}
