package provision

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A release waits while others work, but not for long: rights do not stay because many people leave.
func TestReleasesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		take := func() (done func(), waited time.Duration) {
			begin := time.Now()
			done, err := turns.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return done, time.Since(begin)
		}
		var done func()
		for range releasers {
			var waited time.Duration
			if done, waited = take(); waited != 0 {
				t.Errorf("waited %v for a free turn", waited)
			}
		}
		late, waited := take()
		if waited != longestQueue {
			t.Errorf("waited %v, want %v", waited, longestQueue)
		}
		late() // which had no turn
		time.AfterFunc(longestQueue/2, done)
		if _, waited := take(); waited != longestQueue/2 {
			t.Errorf("waited %v for a turn that was given back after %v", waited, longestQueue/2)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := turns.take(ended); err == nil {
			t.Error("took a turn after the end")
		}
	})
}
