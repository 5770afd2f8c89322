package provision

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// releasers bounds the releases that work at once: nobody waits for them, but people
	// wait for the admin connections, the processors and, since version 16, the locks that they use.
	releasers = 3
	// longestQueue is how long a release waits for its turn. Then it goes ahead all the
	// same, so that a rush of people does not keep the rights of others alive.
	longestQueue = 500 * time.Millisecond
)

// turns lets releases work a few at a time.
type turns struct{ free *semaphore.Weighted }

func newTurns() turns { return turns{semaphore.NewWeighted(releasers)} }

// take waits for a turn, and returns what gives it back. The error is that of ctx.
func (t turns) take(ctx context.Context) (done func(), err error) {
	limited, cancel := context.WithTimeout(ctx, longestQueue)
	defer cancel()
	if t.free.Acquire(limited, 1) == nil {
		return func() { t.free.Release(1) }, nil
	}
	return func() {}, ctx.Err()
}
