package agent

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/postern-db/postern/internal/access"
)

// chore is the work of an errand, and stops in the middle.
type chore struct {
	errand
	goOn         chan struct{}
	begun, ended int
	stopped      bool
}

func (c *chore) do(context.Context) {
	if c.begun != c.ended {
		panic("done twice at once")
	}
	c.begun++
	<-c.goOn
	c.ended++
}

// check looks how often the work has been begun and ended once nothing moves any more.
func (c *chore) check(t *testing.T, when string, begun, ended int) {
	t.Helper()
	synctest.Wait()
	if c.begun != begun || c.ended != ended {
		t.Errorf("%s: begun %d times and ended %d times, want %d and %d", when, c.begun, c.ended, begun, ended)
	}
}

// TestErrand is done once for whatever was asked since it was last begun, and never
// outside of begin and end.
func TestErrand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &chore{goOn: make(chan struct{})}
		c.ask()
		c.ask()
		c.check(t, "asked for too early", 0, 0)
		c.begin(t.Context(), c.do)
		c.check(t, "begins", 1, 0)
		c.goOn <- struct{}{}
		c.check(t, "nothing left", 1, 1)

		c.ask()
		c.check(t, "asked for", 2, 1)
		c.ask()
		c.ask()
		c.check(t, "asked for while it is done", 2, 1)
		c.goOn <- struct{}{}
		c.check(t, "done once more", 3, 2)

		c.ask()
		go func() {
			c.end()
			c.stopped = true
		}()
		c.check(t, "ending", 3, 2)
		if c.stopped {
			t.Error("the end has not waited for the work")
		}
		c.goOn <- struct{}{}
		c.ask()
		c.check(t, "over", 3, 3)
		if !c.stopped {
			t.Error("the end waits for nothing")
		}
	})
}

func TestErrandThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &chore{}
		c.begin(t.Context(), c.do)
		c.check(t, "not asked for", 0, 0)
		c.end()
		(&errand{}).end() // one that was never begun
	})
}

// TestOffers: the latest counts, each is taken once, and again only if it is still the latest.
func TestOffers(t *testing.T) {
	t.Parallel()
	var s session
	take := func(want ...string) *offer {
		t.Helper()
		o := s.takeOffer()
		if len(want) == 0 && o != nil || len(want) > 0 && (o == nil || o.DatabaseRoles[0] != want[0]) {
			t.Fatalf("took %+v, want %v", o, want)
		}
		return o
	}
	give := func(role string) { s.offer(access.Decision{DatabaseRoles: []string{role}}) }
	take()
	give("first")
	give("second")
	owed := take("second")
	take()
	s.offerAgain(owed)
	take("second")

	give("third")
	s.offerAgain(owed)
	take("third")
	s.offerAgain(owed)
	take()
}
