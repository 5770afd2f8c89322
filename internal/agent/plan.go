package agent

import (
	"context"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// planTimeout bounds a plan; less than the hub waits for it.
const planTimeout = 45 * time.Second

// Plan shows what provisioning would do for a session of a user now, and does
// nothing. Errors are those with which the session would be refused, NotFound for
// a database that is not served here, and Invalid when it must be said which
// logical database is meant.
func (s *Server) Plan(ctx context.Context, q api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error) {
	none := api.PlanDatabaseResponse{}
	d, err := s.borrow(q.Name)
	if err != nil {
		return none, err
	}
	defer d.sessions.Done()
	if d.unsupported != nil {
		return none, d.unsupported
	}
	ctx, cancel := context.WithTimeout(ctx, planTimeout)
	defer cancel()
	if err := d.labels.wait(ctx); err != nil {
		return none, fault.New(fault.Unavailable, "the labels of the database are not known yet")
	}
	view, _ := s.cfg.View()
	user, ok := view.User(q.User)
	if !ok {
		return none, fault.Newf(fault.NotFound, "user %q not found", q.User)
	}
	bound := view.Decisions().Bind(access.Request{User: user.GetName(), Roles: user.Spec.Roles, Traits: user.Spec.Traits})
	if q.DatabaseName == "" {
		names := bound.Overview(d.resource, d.labels.effective()).AllowedNames
		if len(names) != 1 || names[0] == "*" {
			return none, fault.New(fault.Invalid, "the user may use several database names").WithHint("say which one, with --db-name")
		}
		q.DatabaseName = names[0]
	}
	decision := bound.Decide(access.Request{
		Database: d.resource, Labels: d.labels.effective(), DatabaseUser: user.GetName(), DatabaseName: q.DatabaseName,
		DatabaseRoles: q.DatabaseRoles, MFAVerified: true,
	})
	if err := decision.Err(); err != nil {
		return none, err
	}
	return s.plan(ctx, d, user, q.DatabaseName, q.DatabaseRoles != nil, decision)
}

// plan shows what provisioning would do for a decision, of a session that has chosen
// its db roles or not.
func (s *Server) plan(ctx context.Context, d *database, user *resource.User, dbname string, chosen bool, decision access.Decision) (api.PlanDatabaseResponse, error) {
	out := api.PlanDatabaseResponse{
		Mode: decision.Mode.String(), DatabaseName: dbname, DatabaseUser: decision.DatabaseUser,
		DatabaseRoles: append([]string{}, decision.DatabaseRoles...), Steps: []api.PlanStep{},
	}
	if !decision.Mode.Enabled() {
		return out, nil
	}
	if err := s.frozen(d.resource.GetName()); err != nil {
		return out, err
	}
	bundle := s.bundleWant(d, dbname, decision)
	want := wantOf(decision, dbname)
	want.Chosen = chosen
	p, err := d.provisioner.Preview(ctx, want, bundle, s.origins(d, user, decision))
	if err != nil {
		return out, err
	}
	out.DatabaseUser, out.Exists, out.Sessions, out.Bundle = p.User, p.Exists, p.Sessions, p.Bundle
	for _, step := range p.Steps {
		out.Steps = append(out.Steps, api.PlanStep(step))
	}
	if p.Missing != nil {
		out.Missing, out.MissingHint = p.Missing.Text, p.Missing.Hint
	}
	return out, nil
}

// origins says which roles of a user the rights of a decision come from.
func (s *Server) origins(d *database, user *resource.User, decision access.Decision) provision.Origins {
	view, _ := s.cfg.View()
	labels := d.labels.effective()
	from := provision.Origins{Roles: map[string][]string{}}
	for _, role := range user.Spec.Roles {
		alone := view.Decisions().Overview(access.Request{
			User: user.GetName(), Roles: []string{role}, Traits: user.Spec.Traits, Database: d.resource, Labels: labels,
		})
		for _, given := range alone.DatabaseRoles {
			from.Roles[given] = append(from.Roles[given], role)
		}
	}
	for _, role := range rolesOf(decision.Permissions) {
		entries := slices.DeleteFunc(slices.Clone(decision.Permissions), func(p access.Permission) bool {
			return p.Role != role || p.Effect != access.EffectAllow
		})
		if len(entries) > 0 {
			from.Objects = append(from.Objects, provision.ObjectOrigin{Role: role, Permissions: s.objectPolicy(d, entries)().Permissions})
		}
	}
	return from
}
