package provision

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

const (
	// The pauses after a sweep that failed: the server may be about to come back.
	firstSweepPause = time.Second
	lastSweepPause  = 30 * time.Second
	// settling is how long after its start a Server sweeps every second: of sessions
	// that a crash cut off, some backends notice only then.
	settling = 15 * time.Second
	// sweepTimeout bounds one sweep, which may meet a connection that was cut off
	// without a word. What it leaves is found by the next.
	sweepTimeout = 30 * time.Second
	// betweenSweeps keeps sessions that fail in a row from causing a sweep each.
	betweenSweeps = time.Second
)

// Serve sweeps at once and each second for a while, then every
// Config.SweepInterval, and soon after something went wrong, until ctx ends. A server that cannot be reached is tried again with
// growing pauses. Serve returns nil.
func (s *Server) Serve(ctx context.Context) error {
	var follow sync.WaitGroup
	follow.Go(func() { s.followBundles(ctx) })
	defer follow.Wait()
	failures, start := 0, time.Now()
	for {
		pause := s.cfg.SweepInterval
		if s.sweepOnce(ctx) {
			failures = 0
			if time.Since(start) < settling {
				pause = min(pause, firstSweepPause)
			}
		} else {
			pause = min(firstSweepPause<<min(failures, 5), lastSweepPause, pause)
			failures++
		}
		wake := s.wake
		if failures > 0 {
			wake = nil // the failure itself may have asked for it
		}
		if s.rest(ctx, pause, wake) {
			s.rest(ctx, min(betweenSweeps, pause), nil)
		}
		if ctx.Err() != nil {
			return nil
		}
		s.pool.closeIdle(ctx, time.Now().Add(-s.cfg.IdleTimeout))
	}
}

// rest waits until the pause is over or ctx ends, or until it is woken, which it reports.
func (s *Server) rest(ctx context.Context, pause time.Duration, wake <-chan struct{}) (woken bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
		return true
	}
	return false
}

// sweepOnce sweeps, reports, and tells whether nothing is left that another
// sweep could do soon.
func (s *Server) sweepOnce(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	outcomes, err := s.Sweep(limited)
	if ctx.Err() != nil {
		return true
	}
	s.counters.sweeps.Add(1)
	clean := err == nil
	if err != nil {
		s.log.Warn("sweep failed", "error", fault.Chain(err))
	}
	for _, out := range outcomes {
		if out.Err != nil {
			// What only an administrator can repair is not tried any sooner, nor
			// reported again.
			clean = clean && errors.Is(out.Err, errRefused)
			if !s.backlog.news(out.User, out.Err) {
				continue
			}
			s.log.Warn("account not released", "database_user", out.User, "error", fault.Chain(out.Err))
		} else {
			s.log.Info("account released by sweep", "database_user", out.User, "result", out.Result.String())
		}
		if s.cfg.Swept != nil {
			s.cfg.Swept(out)
		}
	}
	if !clean {
		s.counters.failedSweeps.Add(1)
	}
	return clean
}
