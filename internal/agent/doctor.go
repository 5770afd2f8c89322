package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/provision"
)

// doctorTimeout bounds an examination; less than the hub waits for it.
const doctorTimeout = 45 * time.Second

// Doctor examines the server of a database: whether everything that policy can
// hand out there, can be. It changes nothing. Errors are NotFound for a database
// that is not served here and Unavailable when the examination does not end.
func (s *Server) Doctor(ctx context.Context, name string, handouts []api.Handout) ([]api.Finding, error) {
	d, err := s.borrow(name)
	if err != nil {
		return nil, err
	}
	defer d.sessions.Done()
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	if f, found := d.adminMissing(handouts); found {
		return []api.Finding{f}, nil
	}
	admin, defaultDatabase := d.resource.AdminUser()
	checkup := provision.Checkup{
		Connect: d.connectDoctor, AdminName: admin, DefaultDatabase: defaultDatabase, IAM: len(d.credentials.roles(d.resource)) > 0,
	}
	for _, h := range handouts {
		checkup.Handouts = append(checkup.Handouts, provision.Handout(h))
	}
	findings, err := provision.Doctor(ctx, checkup)
	if err != nil {
		return nil, fault.Newf(fault.Unavailable, "database %q cannot be examined", name).WithDetail(err.Error()).WithCause(err)
	}
	all := make([]api.Finding, 0, len(findings))
	for _, f := range findings {
		all = append(all, api.Finding{
			Severity: string(f.Severity), Check: f.Check, Problem: f.Problem, Breaks: f.Breaks, SQL: f.SQL, HBA: f.HBA, Advice: f.Advice,
		})
	}
	return all, nil
}

// borrow returns a served database that stays usable until sessions.Done.
func (s *Server) borrow(name string) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.databases[name]
	if !ok {
		return nil, fault.Newf(fault.NotFound, "database %q is not served by this agent", name)
	}
	d.sessions.Add(1)
	return d, nil
}

// adminMissing says that there is no admin user, which is a fault only where
// policy wants one.
func (d *database) adminMissing(handouts []api.Handout) (api.Finding, bool) {
	admin, _ := d.resource.AdminUser()
	if admin != "" && d.resource.CanProvision() {
		return api.Finding{}, false
	}
	f := api.Finding{
		Severity: string(provision.SeverityAdvice), Check: "admin_user",
		Problem: "no admin user is configured for this database",
		Breaks:  "nothing now: no role asks for automatic users here",
		Advice:  "set admin_user.name of the database to a role with LOGIN and CREATEROLE",
	}
	if !d.resource.CanProvision() {
		f.Problem = fmt.Sprintf("automatic users are not possible on servers of type %s", d.resource.Type())
		f.Advice = "switch create_db_user_mode off in roles that reach this database, and name existing accounts in their db_users"
	}
	if len(handouts) > 0 {
		f.Severity, f.Breaks = api.SeverityError, "roles ask for automatic users here: every session with one is refused"
	}
	return f, true
}

// connectDoctor logs in as the admin user and leaves the server's own settings as
// users meet them.
func (d *database) connectDoctor(ctx context.Context, dbname string) (*pgconn.PgConn, error) {
	params := slices.DeleteFunc(adminParams(), func(p pgwire.Param) bool { return strings.HasPrefix(p.Name, "default_transaction_") })
	return d.connectAdminWith(ctx, dbname, params)
}
