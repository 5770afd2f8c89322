package agent

import (
	"context"
	"reflect"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// holding is what a session was given. It does not change.
type holding struct {
	decided []string            // db roles that policy gives
	roles   []string            // those of them that the account has: a sibling keeps what it began with
	entries []access.Permission // object permissions
	bundle  string              // that holds them; empty for none
}

const (
	// narrowTimeout bounds moving an account to a bundle that gives less. After it the former one is taken
	// away first: a big bundle is being made.
	narrowTimeout = 500 * time.Millisecond
	// stripTimeout bounds that. After it the session is ended: PostgreSQL does not answer.
	stripTimeout = 5 * time.Second
)

// rearrange gives a running session what policy says now: more db roles, and the
// bundle of other object permissions. What cannot be taken away in place ends the session; what
// cannot be given is left out until the next one. It reports whether PostgreSQL had no time for that, so
// that it is to be tried again.
func (s *session) rearrange(ctx context.Context, next access.Decision) (again bool) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	defer s.moves() // until then it is told what either bundle loses
	narrows, former := !widens(held.entries, next.Permissions), roleOf(s.bundle)
	work, cancel := ctx, context.CancelFunc(func() {})
	if narrows {
		work, cancel = context.WithTimeout(ctx, narrowTimeout)
	}
	defer cancel()
	roles, err := s.moveBundle(work, held, next)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil && narrows:
		s.log.Info("object permissions taken away, those that are left follow", "error", fault.Chain(err))
		return s.strip(ctx, held, former) && s.rearrange(ctx, next)
	case err != nil:
		s.log.Warn("session not given what policy adds", "error", fault.Chain(err))
		return fault.KindOf(err) == fault.Unavailable
	}
	s.log.Info("session follows policy", "db_roles", roles, "bundle", roleOf(s.bundle), "narrowed", narrows)
	s.hold(next.DatabaseRoles, roles, next.Permissions)
	if narrows && former != roleOf(s.bundle) {
		s.settleMove(ctx, former)
	}
	return false
}

// moves notes the bundles between which the account is moved; none when that is over.
func (s *session) moves(bundles ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moving = bundles
}

// settleMove looks into what the session cannot do any more since its account has left a bundle.
func (s *session) settleMove(ctx context.Context, former string) {
	if former != "" {
		s.settle(ctx, func() (bool, error) { return s.lease.LingersOn(ctx, former) })
	}
}

// strip takes the object permissions from the account at once. The session is ended where
// that cannot be done. It reports whether the session goes on.
func (s *session) strip(ctx context.Context, held *holding, former string) bool {
	work, cancel := context.WithTimeout(ctx, stripTimeout)
	defer cancel()
	if err := s.lease.Strip(work, former); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("session ended, its object permissions could not be taken away in place", "error", fault.Chain(err))
			s.end(endNarrowedObjects())
		}
		return false
	}
	s.settleMove(ctx, former)
	s.releaseBundle()
	s.permissionsUpdated(ctx, provision.BundleResult{}, nil)
	s.mu.Lock()
	s.held = &holding{decided: held.decided, roles: held.roles}
	s.mu.Unlock()
	return s.endReason() == nil
}

// moveBundle leads the account to the roles and the bundle of a decision, and returns the
// roles that it holds then.
func (s *session) moveBundle(ctx context.Context, held *holding, next access.Decision) ([]string, error) {
	bundle, err := s.bundleOf(ctx, next)
	if err != nil {
		return nil, err
	}
	s.moves(roleOf(s.bundle), roleOf(bundle))
	changed, err := s.lease.Converge(ctx, next.DatabaseRoles, roleOf(bundle))
	if err != nil {
		if bundle != nil {
			bundle.Release()
		}
		return nil, err
	}
	s.releaseBundle()
	s.bundle = bundle
	switch {
	case bundle == nil:
		s.permissionsUpdated(ctx, provision.BundleResult{}, nil)
	case !bundle.Result().Changed: // else that is on record
		s.permissionsUpdated(ctx, bundle.Result(), nil)
	}
	if !changed {
		return held.roles, nil
	}
	return next.DatabaseRoles, nil
}

// settle ends a session that may still use object permissions that were taken away.
func (s *session) settle(ctx context.Context, look func() (bool, error)) {
	lingers, err := look()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.log.Warn("not seen whether the session holds on to permissions that it has lost", "error", fault.Chain(err))
	}
	if err != nil || lingers {
		s.end(endNarrowedObjects())
	}
}

// sameEntries reports whether two decisions give the same on objects.
func sameEntries(a, b []access.Permission) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) || widens(a, b) && widens(b, a)
}

// widens reports whether nobody who was given the old entries loses anything by
// getting the new ones instead: all that allowed is still there, and nothing new denies.
// Who was allowed nothing has nothing to lose.
func widens(old, next []access.Permission) bool {
	before, after := entrySet(old), entrySet(next)
	allowed := false
	for key, effect := range before {
		if effect != access.EffectAllow {
			continue
		}
		if allowed = true; after[key] == "" {
			return false
		}
	}
	for key, effect := range after {
		if allowed && effect == access.EffectDeny && before[key] == "" {
			return false
		}
	}
	return true
}

// entrySet returns the keys of entries.
func entrySet(entries []access.Permission) map[string]access.Effect {
	set := make(map[string]access.Effect, len(entries))
	for _, e := range entries {
		set[entryKey(e)] = e.Effect
	}
	return set
}
