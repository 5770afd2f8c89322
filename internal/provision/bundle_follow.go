package provision

import (
	"context"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// BundleChange says what the background work did to a bundle, or that it took
// away what an account had been granted directly.
type BundleChange struct {
	Role     string // the bundle, or
	User     string // the account that had been granted rights directly
	Database string // the logical database
	Result   BundleResult
	Err      error // what failed
}

// followAfterUse is how long a bundle without sessions is kept current, so that
// the next session need not look at it.
const followAfterUse = 10 * time.Minute

// followBundles keeps the bundles in use equal to policy and schema, and drops
// those that nobody uses, until ctx ends.
func (s *Server) followBundles(ctx context.Context) {
	var nextRound time.Time // of what is done as often as a sweep
	for ctx.Err() == nil {
		if s.frozen() == nil {
			nextRound = s.followOnce(ctx, nextRound)
		}
		s.rest(ctx, s.cfg.BundleInterval, s.follow)
	}
}

// followOnce looks at every bundle in use, and at the rest when its time has come.
// It returns when that is next.
func (s *Server) followOnce(ctx context.Context, nextRound time.Time) time.Time {
	for _, e := range s.bundles.followed(time.Now().Add(-followAfterUse)) {
		s.followBundle(ctx, e)
	}
	now := time.Now()
	if !now.After(nextRound) {
		return nextRound
	}
	s.removeDirect(ctx)
	s.collect(ctx)
	return now.Add(s.cfg.SweepInterval)
}

// followBundle verifies one bundle and reports what is new about it.
func (s *Server) followBundle(ctx context.Context, e *bundleEntry) {
	p := s.bundles.want(e).Policy()
	var result BundleResult
	err := e.exclusively(ctx, func() (err error) {
		result, err = s.verifyBundle(ctx, e, p)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	failure := err
	if failure == nil && result.Missing != nil {
		failure = result.Missing
	}
	text := ""
	if failure != nil {
		text = fault.Chain(failure)
	}
	fresh := s.bundles.news(e, text)
	if fresh {
		s.log.Warn("bundle differs from policy", "bundle", e.name, "db_name", e.database, "error", text)
	}
	if result.Changed {
		s.log.Info("bundle changed", "bundle", e.name, "db_name", e.database, "statements", result.Statements, "took", result.Duration)
	}
	if (fresh || result.Changed) && s.cfg.BundleChanged != nil {
		s.cfg.BundleChanged(BundleChange{Role: e.name, Database: e.database, Result: result, Err: failure})
	}
}
