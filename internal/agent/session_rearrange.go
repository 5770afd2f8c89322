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

// narrowTimeout bounds taking object permissions away in place. After it the session
// is ended: PostgreSQL is slow, or a big bundle is made for the first time.
const narrowTimeout = 500 * time.Millisecond

// rearrange gives a running session what policy says now: more db roles, and the
// bundle of other object permissions. What cannot be taken away in place ends the session; what
// cannot be given is left out until the next one.
func (s *session) rearrange(ctx context.Context, next access.Decision) {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	narrows := !widens(held.entries, next.Permissions)
	work, cancel := ctx, context.CancelFunc(func() {})
	if narrows {
		work, cancel = context.WithTimeout(ctx, narrowTimeout)
	}
	defer cancel()
	roles, err := s.moveBundle(work, held, next)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && narrows:
		s.log.Warn("session ended, its object permissions could not be taken away in place", "error", fault.Chain(err))
		s.end(endNarrowedObjects())
		return
	case err != nil:
		s.log.Warn("session not given what policy adds", "error", fault.Chain(err))
		return
	}
	s.log.Info("session follows policy", "db_roles", roles, "bundle", roleOf(s.bundle), "narrowed", narrows)
	s.hold(next.DatabaseRoles, roles, next.Permissions)
	if narrows {
		s.settle(ctx, true)
	}
}

// moveBundle leads the account to the roles and the bundle of a decision, and returns the
// roles that it holds then.
func (s *session) moveBundle(ctx context.Context, held *holding, next access.Decision) ([]string, error) {
	bundle, err := s.bundleOf(ctx, next)
	if err != nil {
		return nil, err
	}
	role := ""
	if bundle != nil {
		role = bundle.Role()
	}
	changed, err := s.lease.Converge(ctx, next.DatabaseRoles, role)
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
func (s *session) settle(ctx context.Context, moved bool) {
	lingers, err := s.lease.Lingers(ctx, moved)
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
func widens(old, next []access.Permission) bool {
	before, after := entrySet(old), entrySet(next)
	for key, effect := range before {
		if effect == access.EffectAllow && after[key] == "" {
			return false
		}
	}
	for key, effect := range after {
		if effect == access.EffectDeny && before[key] == "" {
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
