package provision

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// Step is a statement of a plan.
type Step struct {
	SQL string
	Why string
}

// Preview is what a session would write now.
type Preview struct {
	User     string       // the account that the session would log in as
	Exists   bool         // the account is there
	Sessions int          // that it has now
	Bundle   string       // that it would hold; empty for none
	Steps    []Step       // in order; empty when nothing is to be done
	Missing  *fault.Error // object permissions that the session would lack; nil for none
}

// Origins says where the rights of a session come from.
type Origins struct {
	Roles   map[string][]string // by db role: the roles that give it
	Objects []ObjectOrigin
}

// ObjectOrigin is what one role gives on objects.
type ObjectOrigin struct {
	Role        string
	Permissions func([]access.Object) access.ObjectPermissions
}

// Preview plans what [Server.Bundle] and [Server.Activate] would do for a session, and
// writes nothing. bundle is nil for a session without object permissions; the
// Bundle of w is not looked at. Errors are those that the session would get.
func (s *Server) Preview(ctx context.Context, w Want, bundle *BundleWant, from Origins) (Preview, error) {
	if inTheWay, busy := s.accounts.busy(w); busy {
		return s.previewSibling(ctx, w, bundle, from, inTheWay)
	}
	p, err := s.previewAccount(ctx, w, bundle, from, false)
	if other, used := errors.AsType[*inUseError](err); used {
		return s.previewSibling(ctx, w, bundle, from, other.pids)
	}
	return p, err
}

// previewSibling is for a session that finds the person's account in use with other roles.
func (s *Server) previewSibling(ctx context.Context, w Want, bundle *BundleWant, from Origins, inTheWay []uint32) (Preview, error) {
	if w.Alone {
		return Preview{}, conflict(w.User, inTheWay)
	}
	return s.previewAccount(ctx, sibling(w), bundle, from, true)
}

// previewAccount plans for one account.
func (s *Server) previewAccount(ctx context.Context, w Want, bundle *BundleWant, from Origins, sibling bool) (Preview, error) {
	p := Preview{User: w.User}
	w.Bundle = ""
	if _, err := s.target(w); err != nil {
		return p, err
	}
	if bundle != nil {
		if err := s.previewBundle(ctx, *bundle, from, &p); err != nil {
			return p, err
		}
		w.Bundle = p.Bundle
	}
	want, err := s.target(w)
	if err != nil {
		return p, err
	}
	want.sibling = sibling
	e := s.accounts.use(w.User)
	defer s.accounts.leave(e)
	var have state
	var steps []statement
	err = s.withConn(ctx, s.database(w.DatabaseName), func(conn *pgconn.PgConn) (err error) {
		if have, err = observe(ctx, conn, want.user, want.roles); err != nil {
			return err
		}
		if err := s.mayChange(e, have, want, false); err != nil && !errors.Is(err, errAbandoned) { // that would be taken over
			return err
		}
		for i := range have.Roles {
			if r := &have.Roles[i]; r.Name == p.Bundle && !r.Exists {
				r.Exists, r.AdminOf = true, true // one of the steps before creates it
			}
		}
		var over beyond
		steps, over = plan(have, want)
		return s.check(have, want, steps, over)
	})
	if err != nil {
		return p, err
	}
	p.Exists, p.Sessions = have.Account.exists(), len(have.Account.Sessions)
	for _, step := range steps {
		reason := why(have, want, step)
		if step.action == grant {
			reason = from.ofGrant(step.role, p.Bundle, s.cfg.ExtraRoles)
		}
		p.Steps = append(p.Steps, Step{step.String(), reason})
	}
	return p, nil
}

// ofGrant explains a membership.
func (o Origins) ofGrant(role, bundle string, extra []string) string {
	switch {
	case role == bundle:
		var roles []string
		for _, origin := range o.Objects {
			roles = append(roles, origin.Role)
		}
		return "the bundle holds what db_permissions give in this database: " + byRoles(roles)
	case len(o.Roles[role]) > 0:
		return "db_roles: " + byRoles(o.Roles[role])
	case slices.Contains(extra, role):
		return "every database user of this server needs it to log in"
	}
	return "policy gives it"
}

func byRoles(roles []string) string {
	if len(roles) == 1 {
		return "role " + roles[0]
	}
	return "roles " + strings.Join(roles, ", ")
}

// previewBundle adds the steps that make the bundle equal to policy.
func (s *Server) previewBundle(ctx context.Context, w BundleWant, from Origins, p *Preview) error {
	p.Bundle = bundleName(s.place(w.Database), w.Key)
	c := &convergence{s: s, name: p.Bundle, comment: describeBundle(w.Database, w.Roles), permissions: w.Policy().Permissions}
	err := s.withConn(ctx, w.Database, func(conn *pgconn.PgConn) (err error) {
		p.Steps, err = c.preview(ctx, conn, from)
		return err
	})
	if err == nil && len(c.missing) > 0 {
		if p.Missing = s.missingFault(c.missing); !w.Warn {
			err = p.Missing
		}
	}
	return err
}

// preview returns the first round of what run would do. The second only verifies, unless
// the admin's grant options come through several roles.
func (c *convergence) preview(ctx context.Context, conn *pgconn.PgConn, from Origins) ([]Step, error) {
	var b batch
	b.bundle(c.name, &c.have, &c.fingerprint)
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	possible, err := c.plan(ctx, conn)
	if err != nil {
		return nil, err
	}
	steps := c.planRole(len(possible) > 0)
	if len(steps) > 0 {
		if err := c.s.checkBundleAdmin(&c.have, c.name); err != nil {
			return nil, err
		}
	}
	if _, over := powersOfBundle(&c.have, c.name); over {
		return nil, c.overfull("attributes of the role itself")
	}
	if err := c.overfull(); err != nil {
		return nil, err
	}
	why := reasons{have: &c.have, from: from.Objects}
	for _, statement := range objectStatements(c.name, possible) {
		steps = append(steps, Step{statement.sql, why.of(statement)})
	}
	return steps, nil
}

// reasons explains the statements of one bundle.
type reasons struct {
	have  *bundleState
	from  []ObjectOrigin
	given []map[objectID]privileges // by each of from; nil until it is needed
}

func (r *reasons) of(s objectStatement) string {
	switch {
	case s.verb == verbUnoption:
		return "nobody may hand on what a bundle holds"
	case s.verb == verbRevoke:
		return "no db_permissions entry gives it"
	case s.objects[0].class == classSchema:
		return "objects in it are given, which cannot be named without USAGE on the schema"
	case s.objects[0].class == classDatabase:
		return "rights in a database are of no use without CONNECT"
	}
	return "db_permissions: " + byRoles(r.givers(s))
}

// givers returns the roles that give something of what a statement grants.
func (r *reasons) givers(s objectStatement) []string {
	if r.given == nil {
		for _, origin := range r.from {
			alone, err := resolveRights(r.have, origin.Permissions)
			if err != nil {
				alone.on = nil // the error would have been that of the whole
			}
			r.given = append(r.given, alone.on)
		}
	}
	var roles []string
	for i, origin := range r.from {
		if slices.ContainsFunc(s.objects, func(o *bundleObject) bool { return r.given[i][o.id()]&s.p != 0 }) {
			roles = append(roles, origin.Role)
		}
	}
	return roles
}

// sqlOf returns the statements of a plan.
func sqlOf(steps []Step) []string {
	sql := make([]string, len(steps))
	for i, s := range steps {
		sql[i] = s.SQL
	}
	return sql
}
