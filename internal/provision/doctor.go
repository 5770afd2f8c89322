package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// Severity says how bad a [Finding] is.
type Severity string

// The severities, worst first.
const (
	SeverityError   Severity = "error"   // sessions are refused
	SeverityWarning Severity = "warning" // something will not work, or not for long
	SeverityAdvice  Severity = "advice"  // it works, and could be better
)

// Finding is something about a server that stands in the way of provisioning.
type Finding struct {
	Severity Severity
	Check    string // short and stable name of what was looked at
	Problem  string // what is the case
	Breaks   string // what does not work because of it
	Database string // the logical database that the SQL must be run in; empty: any

	// SQL repairs it when a superuser runs it, one statement on each line. The
	// statements of all findings run in the order of the findings.
	SQL []string
	// HBA are lines for pg_hba.conf, where SQL does not help.
	HBA []string
	// Advice says what to do where neither is enough.
	Advice string
}

// Handout is what policy gives to some users: all of them the same roles on the
// same logical databases.
type Handout struct {
	Users     []string
	Roles     []string
	Databases []string // "*" for every one
	Except    []string // not these
	// Permissions says what they are given on objects; nil for nothing. CONNECT comes
	// with it, where the admin may grant it.
	Permissions func([]access.Object) access.ObjectPermissions
	// WarnMissing says that their sessions begin without what cannot be granted of that.
	WarnMissing bool
	// Replication says that they may open replication connections.
	Replication bool
	// Reassign says that what they own is given away when their accounts are dropped.
	Reassign bool
}

// Checkup says what to examine.
type Checkup struct {
	// Connect logs in to a logical database as the admin. Settings of the server
	// that matter to users must not be overridden. Required.
	Connect func(ctx context.Context, database string) (*pgconn.PgConn, error)
	// AdminName is the database user that Connect logs in as. Required.
	AdminName string
	// DefaultDatabase is where the admin works; empty means the databases of the sessions.
	DefaultDatabase string
	// IAM says that accounts log in with tokens of Amazon RDS instead of certificates.
	IAM bool
	// Password says that accounts log in with passwords instead of certificates.
	Password *PasswordCheckup
	// Scope is that of the bundles, see [Config].
	Scope string
	// Handouts are what policy can ask of this server.
	Handouts []Handout
}

// Doctor examines a server as it is now, and changes nothing. What it finds is no
// error, not even that the admin cannot log in. Errors have no kind.
func Doctor(ctx context.Context, c Checkup) ([]Finding, error) {
	conn, err := c.connect(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("examine the server: %w", errors.Join(ctx.Err(), err))
	}
	if err != nil {
		return append(c.loginFindings(err), c.nameFindings()...), nil
	}
	have, err := c.observe(ctx, conn)
	_ = conn.Close(ctx) // what was learnt stays true
	if err != nil {
		return nil, fmt.Errorf("examine the server: %w", err)
	}
	login, err := c.checkLogin(ctx, have)
	if err != nil {
		return nil, fmt.Errorf("examine the server: %w", err)
	}
	found := append(login, c.findings(have)...)
	if have.Recovery {
		return found, nil
	}
	objects, err := c.checkObjects(ctx, have)
	if err != nil {
		return nil, fmt.Errorf("examine the server: %w", err)
	}
	return append(found, objects...), nil
}

// noConnectError holds the logical databases that refused the admin for want of CONNECT.
type noConnectError []string

func (e noConnectError) Error() string {
	return "permission denied for database " + strings.Join(e, ", ")
}

// maxLogins bounds how many databases are tried.
const maxLogins = 10

// connect logs in to the first logical database that takes the admin: roles and
// databases can be seen from each of them.
func (c Checkup) connect(ctx context.Context) (*pgconn.PgConn, error) {
	var refused noConnectError
	var last error
	for _, database := range c.candidates() {
		conn, err := c.Connect(ctx, database)
		switch pg, ok := errors.AsType[*pgconn.PgError](err); {
		case err == nil:
			return conn, nil
		case !ok:
			return nil, err
		case pg.Code == codeInsufficientRights && (pg.Routine == "" || pg.Routine == connectRoutine):
			refused = append(refused, database)
		case pg.Code == codeUndefinedDatabase || pg.Code == codeDatabaseClosed:
			last = err
		default:
			return nil, err
		}
	}
	if len(refused) > 0 {
		return nil, refused
	}
	return nil, last
}

// Where in the server a login ends tells apart what has one SQLSTATE. A proxy in
// between may not pass it on.
const (
	connectRoutine     = "CheckMyDatabase"         // no CONNECT, else a start-up parameter is refused
	unknownUserRoutine = "InitializeSessionUserId" // no such role, or none that logs in; else pg_hba.conf refuses
)

// codeDatabaseClosed is the SQLSTATE of a database that takes no connections.
const codeDatabaseClosed = "55000"

// candidates are the databases to try, those first where the admin has to work.
func (c Checkup) candidates() []string {
	var all []string
	for _, h := range c.Handouts {
		all = append(all, h.Databases...)
	}
	slices.Sort(all)
	all = append([]string{c.DefaultDatabase}, all...)
	seen := map[string]bool{"*": true}
	all = slices.DeleteFunc(all, func(name string) bool {
		drop := seen[name] || checkName("database", name) != nil
		seen[name] = true
		return drop
	})
	fallback := []string{"postgres", "template1"}
	all = all[:min(len(all), maxLogins-len(fallback))]
	for _, name := range fallback {
		if !seen[name] {
			all = append(all, name)
		}
	}
	return all
}

// certificateLines let everybody in who shows a certificate with their name.
func certificateLines() []string {
	return []string{
		"hostssl all             all             ::/0                    cert",
		"hostssl all             all             0.0.0.0/0               cert",
	}
}

// loginFindings says why the admin cannot log in. Nothing else can be seen then.
func (c Checkup) loginFindings(err error) []Finding {
	f := Finding{
		Severity: SeverityError, Check: "login",
		Breaks: "nothing can be provisioned, and nothing else be checked: run this again when it is repaired",
	}
	if refused, ok := errors.AsType[noConnectError](err); ok {
		f.Problem = fmt.Sprintf("the admin user %q may not connect to any database", c.AdminName)
		if c.DefaultDatabase != "" {
			refused = refused[:1] // it works there only
		}
		for _, database := range refused {
			f.SQL = append(f.SQL, grantConnectSQL(database, c.AdminName))
		}
		return []Finding{f}
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, ErrMD5):
		return []Finding{c.adminMD5(f)}
	case !ok:
		text, advice := err.Error(), "check that the server runs, and what its log says"
		if told := fault.Of(err); told.Kind != fault.Internal {
			text, advice = told.Text, strings.TrimSpace(told.Hint+"\n"+told.Detail)
		}
		f.Problem = fmt.Sprintf("the admin user %q cannot log in: %s", c.AdminName, text)
		f.Advice = advice
		return []Finding{f}
	}
	f.Problem = fmt.Sprintf("the admin user %q cannot log in: %s", c.AdminName, pg.Message)
	denied := pg.Code == codeInvalidAuthorization || pg.Code == codeInvalidPassword
	switch {
	case denied && c.IAM:
		f.SQL = append(MakeAdminSQL(c.AdminName), grantAdminOptionSQL(rdsRole, c.AdminName))
		f.Advice = "switch IAM database authentication on for the instance, and let the agent's AWS role connect (rds-db:connect)"
	case denied && pg.Routine == unknownUserRoutine:
		f.SQL = MakeAdminSQL(c.AdminName)
	case denied && c.Password != nil:
		c.adminPassword(&f, pg)
	case denied:
		f.HBA = certificateLines()
		f.Advice = "put the lines into pg_hba.conf above others that match, and reload; ssl_ca_file must hold the output of " +
			"`postern ctl auth export --type=db-client`"
		if pg.Routine == "" {
			f.SQL = MakeAdminSQL(c.AdminName)
		}
	default:
		f.Advice = "see what the server says, and its log"
	}
	return []Finding{f}
}
