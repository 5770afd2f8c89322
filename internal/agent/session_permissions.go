package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// bundleWant returns the bundle that a decision needs in a logical database, or
// nil: without an entry that allows something there is nothing to give.
func (s *Server) bundleWant(d *database, dbname string, decision access.Decision) (*provision.BundleWant, error) {
	entries := decision.Permissions
	if !slices.ContainsFunc(entries, func(p access.Permission) bool { return p.Effect == access.EffectAllow }) {
		return nil, nil
	}
	key, err := permissionsKey(entries)
	if err != nil {
		return nil, err
	}
	return &provision.BundleWant{
		Database: dbname,
		Key:      key,
		Roles:    rolesOf(entries),
		Policy:   s.objectPolicy(d, entries),
		Warn:     decision.Limits.OnMissingGrant == resource.MissingGrantWarn,
	}, nil
}

// prepareBundle makes sure that there is a bundle with the object permissions of
// the decision.
func (s *session) prepareBundle(ctx context.Context) (err error) {
	s.bundle, err = s.makeBundle(ctx, s.decision.Permissions)
	return err
}

// makeBundle returns a bundle that holds what the entries give; nil without an
// entry that allows something.
func (s *session) makeBundle(ctx context.Context, entries []access.Permission) (*provision.Bundle, error) {
	if s.replication() == access.PhysicalReplication {
		return nil, nil // it has no use for objects
	}
	decision := s.decision
	decision.Permissions = entries
	want, err := s.agent.bundleWant(s.database, s.startup.Database(), decision)
	if err != nil || want == nil {
		return nil, err
	}
	bundle, err := s.database.provisioner.Bundle(ctx, *want)
	if err != nil {
		err = s.permissionsError(err)
		s.permissionsUpdated(ctx, provision.BundleResult{}, err)
		return nil, err
	}
	if r := bundle.Result(); r.Changed {
		s.permissionsUpdated(ctx, r, nil)
		s.log.Debug("bundle changed", "bundle", bundle.Role(), "created", r.Created, "statements", r.Statements, "took", r.Duration)
	}
	return bundle, nil
}

// switchBundle gives the account another bundle while the session runs.
func (s *session) switchBundle(ctx context.Context, entries []access.Permission) error {
	next, err := s.makeBundle(ctx, entries)
	if err != nil {
		return err
	}
	if err := s.lease.SwitchBundle(ctx, roleOf(next)); err != nil {
		if next != nil {
			next.Release()
		}
		return err
	}
	s.releaseBundle()
	s.bundle = next
	return nil
}

// roleOf is the role that holds the object permissions, or "".
func roleOf(b *provision.Bundle) string {
	if b == nil {
		return ""
	}
	return b.Role()
}

// sameObjects reports whether entries give the same.
func sameObjects(a, b []access.Permission) bool {
	x, errX := permissionsKey(a)
	y, errY := permissionsKey(b)
	return errX == nil && errY == nil && x == y
}

// takesObjects reports whether the entries of policy may give less than they did: not
// all that allowed is still there, or something that denies is new.
func takesObjects(before, now []access.Permission) bool {
	lacks := func(some, all []access.Permission, effect access.Effect) bool {
		return slices.ContainsFunc(some, func(p access.Permission) bool {
			return p.Effect == effect && !slices.ContainsFunc(all, func(q access.Permission) bool { return covers(q, p) })
		})
	}
	return lacks(before, now, access.EffectAllow) || lacks(now, before, access.EffectDeny)
}

// covers reports whether an entry selects the same objects as another one, with the
// same effect, and at least its permissions.
func covers(all, some access.Permission) bool {
	permissions := append(slices.Clone(all.Permissions), some.Permissions...)
	both := access.Permission{Effect: some.Effect, Match: some.Match, Permissions: permissions}
	return sameObjects([]access.Permission{both}, []access.Permission{all})
}

// mayBecomeBundles reports whether the session may have used SET ROLE with its
// bundle, whose rights it would go on to have.
func (s *session) mayBecomeBundles() bool { return s.database.traits.major.Load() < 16 }

// releaseBundle gives the bundle back, after the account.
func (s *session) releaseBundle() {
	if s.bundle != nil {
		s.bundle.Release()
		s.bundle = nil
	}
}

// objectPolicy answers what the entries give now, with import rules and labels as
// they are when it is asked.
func (s *Server) objectPolicy(d *database, entries []access.Permission) func() provision.ObjectPolicy {
	return func() provision.ObjectPolicy {
		view, _ := s.cfg.View()
		policy, labels := view.Decisions(), d.labels.effective()
		return provision.ObjectPolicy{
			Revision: objectRevision{policy: policy, labels: labelsKey(labels)},
			Permissions: func(objects []access.Object) access.ObjectPermissions {
				return policy.ObjectPermissions(d.resource, labels, entries, objects)
			},
		}
	}
}

// objectRevision is comparable: while it is the same, so is what entries give.
type objectRevision struct {
	policy *access.Policy
	labels string
}

func labelsKey(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%q=%q,", name, labels[name])
	}
	return b.String()
}

// permissionsKey stands for what the entries give, whatever roles they come from
// and in whatever order they are.
func permissionsKey(entries []access.Permission) (string, error) {
	var keys []string
	for _, e := range entries {
		permissions := make([]string, len(e.Permissions))
		for i, p := range e.Permissions {
			permissions[i] = strings.ToUpper(strings.TrimSpace(p))
		}
		slices.Sort(permissions)
		key, err := json.Marshal(access.Permission{Effect: e.Effect, Match: e.Match, Permissions: slices.Compact(permissions)})
		if err != nil {
			return "", fmt.Errorf("encode object permissions: %w", err)
		}
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), "\n"), nil
}

// rolesOf returns the roles that the entries come from, sorted.
func rolesOf(entries []access.Permission) []string {
	var roles []string
	for _, e := range entries {
		roles = append(roles, e.Role)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// permissionsError says what was tried, and keeps the rest of what went wrong.
func (s *session) permissionsError(err error) error {
	wrapped := *fault.Of(err)
	if wrapped.Kind == fault.Internal {
		return err
	}
	wrapped.Text = fmt.Sprintf("your role gives object permissions in database %q but they could not be given: %s", s.startup.Database(), wrapped.Text)
	wrapped.Cause = err
	return &wrapped
}

// permissionsUpdated puts a bundle that was made or changed for the session, or
// could not be, on record.
func (s *session) permissionsUpdated(ctx context.Context, r provision.BundleResult, err error) {
	event := permissionsUpdate(r, err)
	event.Session, event.Database = s.next(), s.auditDatabase()
	s.post(ctx, event)
}

// bundleChanged puts what the background work did to a bundle on record.
func (s *Server) bundleChanged(ctx context.Context, d *database, c provision.BundleChange) {
	event := permissionsUpdate(c.Result, c.Err)
	event.Session = audit.Session{ServerID: s.cfg.Cluster}
	event.Database = d.audited()
	event.DatabaseName, event.DatabaseUser = c.Database, c.User
	if c.Role != "" {
		event.Roles = []string{c.Role}
	} else if c.Err == nil {
		event.Message = "rights that had been granted directly were taken away"
	}
	if err := s.cfg.Audit.Post(ctx, event); err != nil {
		s.log.Error("changed permissions not on record", "bundle", c.Role, "database_user", c.User, "error", fault.Chain(err))
	}
}

func permissionsUpdate(r provision.BundleResult, err error) audit.PermissionsUpdate {
	event := audit.PermissionsUpdate{Outcome: audit.OutcomeOf(err), Objects: r.Objects}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		event.Permissions = append(event.Permissions, audit.PermissionCount{Permission: name, Counts: r.Counts[name]})
	}
	return event
}
