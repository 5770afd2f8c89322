package agent

import (
	"context"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// Drift compares the managed accounts and bundles on the server of a database with
// policy as it is now, and changes nothing. Errors are NotFound for a database that
// is not served here, Invalid for one without automatic users, and those of the admin's login.
func (s *Server) Drift(ctx context.Context, name string) ([]api.Deviation, error) {
	d, err := s.borrow(name)
	if err != nil {
		return nil, err
	}
	defer d.sessions.Done()
	if d.provisioner == nil {
		return nil, fault.Newf(fault.Invalid, "database %q has no automatic users", name).
			WithHint("postern db doctor " + name + " says what they need")
	}
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	if err := d.labels.wait(ctx); err != nil {
		return nil, fault.New(fault.Unavailable, "the labels of the database are not known yet")
	}
	deviations, err := d.provisioner.Drift(ctx, s.survey(d))
	all := make([]api.Deviation, 0, len(deviations))
	for _, one := range deviations {
		all = append(all, api.Deviation{
			Role: one.Role, Check: one.Check, Problem: one.Problem, Matters: one.Matters, Repair: one.Repair, Database: one.Database, SQL: one.SQL,
		})
	}
	return all, err
}

// survey returns what policy gives every user on a database.
func (s *Server) survey(d *database) provision.Survey {
	view, _ := s.cfg.View()
	labels := d.labels.effective()
	var all provision.Survey
	bundles := map[string]bool{}
	for _, user := range view.Users() {
		e := provision.Entitlement{User: user.GetName()}
		if decision, ok := atMost(view, d.resource, labels, user); ok {
			e.Roles, e.Replication = decision.DatabaseRoles, decision.Limits.AllowReplication
			if bundle := s.bundleWant(d, "", decision); bundle != nil {
				e.Policies = []string{bundle.Key}
				if !bundles[bundle.Key] {
					bundles[bundle.Key] = true
					all.Bundles = append(all.Bundles, *bundle)
				}
			}
		}
		all.Entitlements = append(all.Entitlements, e)
	}
	return all
}

// atMost returns what a user is given in a session on a database, or false for who
// gets no account there.
func atMost(view View, r *resource.Database, labels map[string]string, user *resource.User) (access.Decision, bool) {
	bound := view.Decisions().Bind(access.Request{User: user.GetName(), Roles: user.Spec.Roles, Traits: user.Spec.Traits})
	o := bound.Overview(r, labels)
	if !o.Visible || !o.Mode.Enabled() {
		return access.Decision{}, false
	}
	decision := bound.Decide(access.Request{
		Database: r, Labels: labels, DatabaseUser: user.GetName(), DatabaseName: o.AnyName(), MFAVerified: true,
	})
	return decision, decision.Err() == nil
}
