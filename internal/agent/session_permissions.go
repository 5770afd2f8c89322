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
func (s *Server) bundleWant(d *database, dbname string, decision access.Decision) *provision.BundleWant {
	entries := decision.Permissions
	if !allowsObjects(entries) {
		return nil
	}
	return &provision.BundleWant{
		Database: dbname,
		Key:      permissionsKey(entries),
		Roles:    rolesOf(entries),
		Policy:   s.objectPolicy(d, entries),
		Warn:     decision.Limits.OnMissingGrant == resource.MissingGrantWarn,
	}
}

// allowsObjects reports whether entries give anything at all.
func allowsObjects(entries []access.Permission) bool {
	return slices.ContainsFunc(entries, func(p access.Permission) bool { return p.Effect == access.EffectAllow })
}

// prepareBundle makes sure that there is a bundle with the object permissions of
// the decision.
func (s *session) prepareBundle(ctx context.Context) (err error) {
	s.bundle, err = s.bundleOf(ctx, s.decision)
	return err
}

// bundleOf returns the bundle of a decision, made or brought up to date, or nil where
// it needs none.
func (s *session) bundleOf(ctx context.Context, d access.Decision) (*provision.Bundle, error) {
	if s.replication() == access.PhysicalReplication {
		return nil, nil // it has no use for objects
	}
	want := s.agent.bundleWant(s.database, s.startup.Database(), d)
	if want == nil {
		return nil, nil
	}
	bundle, err := s.database.provisioner.Bundle(ctx, *want)
	if err != nil {
		err = s.permissionsError(err)
		s.permissionsUpdated(ctx, provision.BundleResult{}, err)
		return nil, err
	}
	if r := bundle.Result(); r.Changed {
		s.agent.metrics.provisioned(workBundle, r.Statements, r.Duration)
		s.permissionsUpdated(ctx, r, nil)
		s.log.Debug("bundle changed", "bundle", bundle.Role(), "created", r.Created, "statements", r.Statements, "took", r.Duration)
	}
	return bundle, nil
}

// roleOf is the role that holds the object permissions, or "".
func roleOf(b *provision.Bundle) string {
	if b == nil {
		return ""
	}
	return b.Role()
}

// releaseBundle gives the bundle back, after the account.
func (s *session) releaseBundle() {
	if s.bundle != nil {
		s.bundle.Release()
		s.bundle = nil
	}
}

// objectPolicy answers what the entries give now, with import rules and labels as
// they are when it is asked.
func (s *Server) objectPolicy(began *database, entries []access.Permission) func() provision.ObjectPolicy {
	return func() provision.ObjectPolicy {
		view, _ := s.cfg.View()
		d := s.current(began)
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
func permissionsKey(entries []access.Permission) string {
	var keys []string
	for _, e := range entries {
		keys = append(keys, entryKey(e))
	}
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), "\n")
}

// entryKey stands for what one entry gives or takes, whatever role it comes from.
func entryKey(e access.Permission) string {
	permissions := make([]string, len(e.Permissions))
	for i, p := range e.Permissions {
		permissions[i] = strings.ToUpper(strings.TrimSpace(p))
	}
	slices.Sort(permissions)
	key, err := json.Marshal(access.Permission{Effect: e.Effect, Match: e.Match, Permissions: slices.Compact(permissions)})
	if err != nil {
		panic(err) // texts and lists of texts always have a JSON form
	}
	return string(key)
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
	what := "bundle"
	if c.Role != "" {
		event.Roles = []string{c.Role}
	} else {
		what = "direct grants"
	}
	s.metrics.repair(d.resource.GetName(), what, c.Err)
	if c.Role == "" && c.Err == nil {
		event.Message = "rights that had been granted directly were taken away"
	}
	if err := s.cfg.Audit.Post(ctx, event); err != nil {
		s.log.Error("changed permissions not on record", "bundle", c.Role, "database_user", c.User, "error", fault.Chain(err))
	}
}

func permissionsUpdate(r provision.BundleResult, err error) audit.PermissionsUpdate {
	event := audit.PermissionsUpdate{Outcome: audit.OutcomeOf(err), Objects: r.Objects, Provisioned: provisioned(r.Statements, r.Duration)}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		event.Permissions = append(event.Permissions, audit.PermissionCount{Permission: name, Counts: r.Counts[name]})
	}
	return event
}
