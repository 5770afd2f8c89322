package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
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
		Scope: s.scope(d.resource.GetName()),
	}
	if d.credentials.method == resource.AuthPassword {
		checkup.Password = &provision.PasswordCheckup{Probe: d.probeLogin, HBA: d.hbaLines(hbaAll)}
	}
	objects := func(h api.Handout) bool { return allowsObjects(h.Permissions) }
	if err := d.labels.wait(ctx); err != nil && slices.ContainsFunc(handouts, objects) {
		return nil, fault.New(fault.Unavailable, "the labels of the database are not known yet")
	}
	for _, h := range handouts {
		checkup.Handouts = append(checkup.Handouts, s.handout(d, h))
	}
	findings, err := provision.Doctor(ctx, checkup)
	if err != nil {
		return nil, fault.Newf(fault.Unavailable, "database %q cannot be examined", name).WithDetail(err.Error()).WithCause(err)
	}
	if err := s.frozen(name); err != nil {
		findings = append([]provision.Finding{isFrozen(err)}, findings...)
	}
	if d.dialing.Plain == pgwire.PlainAnywhere {
		findings = append(findings, inClearText())
	}
	all := make([]api.Finding, 0, len(findings))
	for _, f := range findings {
		all = append(all, api.Finding{
			Severity: string(f.Severity), Database: f.Database, Check: f.Check, Problem: f.Problem, Breaks: f.Breaks, SQL: f.SQL, HBA: f.HBA, Advice: f.Advice,
		})
	}
	return all, nil
}

// handout is what policy gives to some users, with the objects that their db_permissions select now.
func (s *Server) handout(d *database, h api.Handout) provision.Handout {
	out := provision.Handout{
		Users: h.Users, Roles: h.Roles, Databases: h.Databases, Except: h.Except,
		WarnMissing: h.WarnMissing, Replication: h.Replication, Reassign: h.Reassign,
	}
	if allowsObjects(h.Permissions) {
		out.Permissions = s.objectPolicy(d, h.Permissions)().Permissions
	}
	return out
}

// isFrozen is about a database whose automatic users are switched off.
func isFrozen(err error) provision.Finding {
	f := fault.Of(err)
	return provision.Finding{
		Severity: provision.SeverityError, Check: "frozen",
		Problem: f.Text, Breaks: "new sessions with automatic users are refused, and accounts are not released", Advice: f.Hint,
	}
}

// inClearText is about a database with tls.mode: disable.
func inClearText() provision.Finding {
	return provision.Finding{
		Severity: provision.SeverityWarning, Check: "tls",
		Problem: "tls.mode of the database is disable",
		Breaks:  "nothing; but whoever is between the agent and the server reads and changes everything but passwords",
		Advice:  "switch TLS on (ssl = on in postgresql.conf of the server), and set tls.mode to verify-full",
	}
}

// probeLogin begins the login of a database user and stops before a password is needed.
func (d *database) probeLogin(ctx context.Context, user, dbname string) error {
	conn, err := d.dial(ctx, user)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Start(ctx, pgwire.StartConfig{
		User: user, Database: dbname, SCRAMOnly: true,
		Password: func(context.Context) (string, error) { return "", errAsked },
	})
	switch {
	case errors.Is(err, errAsked):
		return nil
	case err == nil:
		return provision.ErrNotAsked
	case errors.Is(err, pgwire.ErrMD5):
		return fmt.Errorf("%w: %w", provision.ErrMD5, err)
	}
	return err
}

// errAsked stops a login that is only tried.
var errAsked = errors.New("asked for a password")

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
	conn, err := d.connectAdminWith(ctx, dbname, params)
	if errors.Is(err, pgwire.ErrMD5) {
		err = fmt.Errorf("%w: %w", provision.ErrMD5, err)
	}
	return conn, err
}
