package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// BundleWant is the object permissions that a session needs in one logical database.
type BundleWant struct {
	Database string // the logical database
	// Key stands for the resolved policy. Sessions whose keys are equal share a
	// bundle, so everything must be in it that makes two sessions differ.
	Key   string
	Roles []string // that the permissions come from; for people
	// Policy returns what policy says now. It is also called after the session has
	// started, to keep the bundle equal to it. It must not block.
	Policy func() ObjectPolicy
	// Warn accepts a bundle that lacks what the admin cannot grant; else that is an error.
	Warn bool
}

// ObjectPolicy says what a bundle may hold.
type ObjectPolicy struct {
	// Revision is comparable. While it is the same, so is what Permissions returns
	// for the same objects.
	Revision    any
	Permissions func([]access.Object) access.ObjectPermissions
}

// BundleResult says what a bundle holds and what was done for it.
type BundleResult struct {
	Changed    bool           // anything was written for this session
	Created    bool           // the bundle did not exist
	Counts     Counts         // what it holds
	Objects    map[string]int // on how many objects, by kind
	Missing    *fault.Error   // what the admin cannot grant; nil when nothing is missing
	Statements int
	Duration   time.Duration
}

// Bundle is a session's claim on a bundle: it is neither dropped nor forgotten, and
// follows policy and schema, until the claim is released.
type Bundle struct {
	s       *Server
	entry   *bundleEntry
	result  BundleResult
	release sync.Once
}

// Role is the name of the role to hand out, see [Want.Bundle].
func (b *Bundle) Role() string { return b.entry.name }

// Result says what was done for this session.
func (b *Bundle) Result() BundleResult { return b.result }

// Release gives the claim back, after the lease of the account was released.
func (b *Bundle) Release() { b.release.Do(func() { b.s.bundles.leave(b.entry) }) }

// Bundle returns a bundle that holds exactly what policy says. A bundle
// that was found equal to policy a moment ago is not looked at again.
//
// Errors are faults: Invalid for permissions that do not exist, Denied for broken
// policy and where the admin lacks a right or a grant option (the hint is the SQL
// that gives it), Conflict for a bundle with rights that the admin may not revoke,
// Unavailable for a server that is read-only or cannot be reached.
func (s *Server) Bundle(ctx context.Context, w BundleWant) (*Bundle, error) {
	if err := s.frozen(); err != nil {
		return nil, err
	}
	begin := time.Now()
	if w.Database == "" || w.Policy == nil {
		return nil, fault.New(fault.Invalid, "a bundle needs a database and a policy")
	}
	e := s.bundles.use(bundleName(s.place(w.Database), w.Key), w)
	result, err := s.currentBundle(ctx, e, w.Policy())
	if err == nil && result.Missing != nil && !w.Warn {
		err = result.Missing
	}
	if err != nil {
		s.bundles.leave(e)
		return nil, err
	}
	result.Duration = time.Since(begin)
	return &Bundle{s: s, entry: e, result: result}, nil
}

// place is the prefix of the bundles of a logical database.
func (s *Server) place(database string) string {
	return placePrefix(s.cfg.Scope, s.cfg.AdminName, database)
}

// currentBundle makes sure that the bundle is equal to policy.
func (s *Server) currentBundle(ctx context.Context, e *bundleEntry, p ObjectPolicy) (BundleResult, error) {
	if v := s.bundles.verified(e); v.fresh(p, time.Now()) {
		return v.result, nil
	}
	var result BundleResult
	err := e.exclusively(ctx, func() (err error) {
		if v := s.bundles.verified(e); v.fresh(p, time.Now()) {
			result = v.result // another session was faster
			return nil
		}
		result, err = s.verifyBundle(ctx, e, p)
		return err
	})
	return result, err
}

// ErrBundleGone is in the chain of an activation's error when somebody has dropped
// the session's bundle. Ask for the bundle again and activate again.
var ErrBundleGone = errors.New("the bundle was dropped")

// bundleGone adds [ErrBundleGone] to the error of an activation, if that is why.
func (s *Server) bundleGone(name string, err error) error {
	if name == "" || codeOf(err) != codeUndefinedObject {
		return err
	}
	s.bundles.forget(name)
	return fmt.Errorf("%w: %w", ErrBundleGone, err)
}

// freshFor is how long a bundle that was found equal to policy is not looked at
// again by sessions. It is several times the interval at which bundles in use are checked.
const freshFor = 10 * time.Second

// fresh reports whether a session may rely on v.
func (v *verified) fresh(p ObjectPolicy, now time.Time) bool {
	return v != nil && v.result.Missing == nil && v.revision == p.Revision &&
		now.Sub(v.at) < freshFor && now.Sub(v.stamped) < 2*touchAfter
}

// verifyBundle looks whether anything has changed since the bundle was last
// verified, and converges it if so. The caller holds the entry's gate.
func (s *Server) verifyBundle(ctx context.Context, e *bundleEntry, p ObjectPolicy) (BundleResult, error) {
	v := s.bundles.verified(e)
	if v != nil && v.result.Missing == nil && time.Since(v.stamped) < touchAfter {
		at := time.Now()
		same, err := s.unchangedBundle(ctx, e, v, p)
		if err != nil {
			return BundleResult{}, err
		}
		if same {
			next := *v
			next.at, next.revision = at, p.Revision
			s.bundles.setVerified(e, &next)
			return next.result, nil
		}
	}
	return s.convergeBundle(ctx, e, p)
}

// unchangedBundle reports whether neither the catalogs nor what policy makes of them differ from v.
func (s *Server) unchangedBundle(ctx context.Context, e *bundleEntry, v *verified, p ObjectPolicy) (bool, error) {
	if v.revision != p.Revision {
		if want, err := resolveRights(&v.have, p.Permissions); err != nil || want.digest != v.digest {
			return false, nil //nolint:nilerr // the convergence comes to the same error
		}
	}
	var now string
	err := s.withConn(ctx, e.database, func(conn *pgconn.PgConn) error {
		var b batch
		b.params(fingerprintSQL, [][]byte{[]byte(e.name)}, func(r *pgconn.Result) error { return oneText(r, &now) })
		return b.run(ctx, conn)
	})
	return now == v.fingerprint, err
}

// convergeBundle makes the bundle equal to policy.
func (s *Server) convergeBundle(ctx context.Context, e *bundleEntry, p ObjectPolicy) (BundleResult, error) {
	if err := s.bundles.writing.Acquire(ctx, 1); err != nil {
		return BundleResult{}, tooLate(err)
	}
	defer s.bundles.writing.Release(1)
	begin := time.Now()
	c := &convergence{s: s, name: e.name, comment: describeBundle(e.database, s.bundles.want(e).Roles), permissions: p.Permissions}
	if err := s.converge(ctx, e.database, c); err != nil {
		s.bundles.setVerified(e, nil)
		return BundleResult{}, err
	}
	result := BundleResult{
		Changed: c.changedRights(), Created: c.created, Counts: c.want.counts, Objects: c.want.kinds,
		Statements: len(c.done), Duration: time.Since(begin),
	}
	if len(c.missing) > 0 {
		result.Missing = s.missingFault(c.missing)
	}
	v := &verified{
		at: begin, stamped: begin.Add(lastUsed(c.have.Role.Comment).Sub(c.have.Now)), fingerprint: c.fingerprint, revision: p.Revision,
		digest: c.want.digest, have: c.have, result: result,
	}
	v.result.Changed, v.result.Created, v.result.Statements, v.result.Duration = false, false, 0, 0
	lost := c.loses(s.bundles.lastVerified(e))
	s.bundles.setVerified(e, v)
	if !lost.empty() && s.cfg.BundleNarrowed != nil {
		s.cfg.BundleNarrowed(e.name, lost)
	}
	return result, nil
}

// changedRights reports whether more than a comment was written.
func (c *convergence) changedRights() bool {
	return c.created || slices.ContainsFunc(c.done, func(sql string) bool { return !isComment(sql) })
}
