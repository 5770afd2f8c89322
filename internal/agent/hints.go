package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// The SQLSTATEs that decide on a hint (PostgreSQL documentation, appendix A).
const (
	insufficientPrivilege = "42501"
	invalidAuthorization  = "28000"
	invalidPassword       = "28P01"
)

// The databases of a line in pg_hba.conf: "all" does not cover physical replication.
const (
	hbaAll         = "all"
	hbaReplication = "replication"
)

// hbaHint says what lets the database users in.
func (d *database) hbaHint(databases string) string {
	what := "client certificates"
	if d.credentials.method == resource.AuthPassword {
		what = "passwords"
	}
	how := what + ", above other lines that match"
	if databases == hbaReplication {
		how = what + " for physical replication too"
	}
	return "Let pg_hba.conf accept " + how + ", and reload:\n" + strings.Join(d.hbaLines(databases), "\n")
}

// hbaLines are lines of pg_hba.conf that let everybody in who proves with the
// method of the database who they are.
func (d *database) hbaLines(databases string) []string {
	lines := func(kind, method string, addresses ...string) (all []string) {
		for _, address := range addresses {
			all = append(all, fmt.Sprintf("%-7s %-15s all             %-23s %s", kind, databases, address, method))
		}
		return all
	}
	const scram = "scram-sha-256"
	hosts := d.resource.Hosts()
	switch {
	case d.credentials.method != resource.AuthPassword:
		return lines("hostssl", "cert", "::/0", "0.0.0.0/0")
	case len(hosts) > 0 && hosts[0].Network() == "unix":
		return lines("local", scram, "")
	case d.dialing.Plain == pgwire.PlainLoopback:
		return lines("host", scram, "::1/128", "127.0.0.1/32")
	case d.dialing.Plain == pgwire.PlainAnywhere:
		return lines("host", scram, "::/0", "0.0.0.0/0")
	}
	return lines("hostssl", scram, "::/0", "0.0.0.0/0")
}

// adminHint adds to a refused login of the admin user what repairs it.
func (d *database) adminHint(err error, admin, dbname string) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	hint := ""
	switch {
	case lacksConnect(pg):
		hint = fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", quote(dbname), quote(admin))
	case d.credentials.refusesToken(pg):
		hint = d.tokenHint(admin, " WITH ADMIN OPTION")
	case pg.Code == invalidPassword:
		hint = fmt.Sprintf("Create the admin user: CREATE USER %s LOGIN CREATEROLE;\n"+
			"Set the password that the agent is configured with: \\password %s in psql", quote(admin), quote(admin))
	case pg.Code == invalidAuthorization:
		hint = fmt.Sprintf("Create the admin user: CREATE USER %s LOGIN CREATEROLE;\n%s", quote(admin), d.hbaHint(hbaAll))
	}
	return withHint(err, fmt.Sprintf("the admin user %s cannot log in: %s", admin, pg.Message), hint)
}

// connectHint adds to a refused login of the database user what repairs it.
func (s *session) connectHint(err error) error {
	if s.database.credentials.method == resource.AuthIAM && errors.Is(err, pgwire.ErrMethod) {
		return withHint(err, fault.Of(err).Text, s.database.tokenHint(s.account, ""))
	}
	if _, told := errors.AsType[*fault.Error](err); told {
		return err
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	hint := ""
	switch {
	case lacksConnect(pg) && s.lease != nil:
		hint = grantConnect(s.databaseName(), s.decision.DatabaseRoles)
	case lacksConnect(pg):
		hint = grantConnect(s.databaseName(), []string{s.decision.DatabaseUser})
	case s.database.credentials.refusesToken(pg):
		hint = s.database.tokenHint(s.account, "")
	case pg.Code == invalidAuthorization && s.replication() == access.PhysicalReplication:
		hint = s.database.hbaHint(hbaReplication)
	case pg.Code == invalidAuthorization:
		hint = s.database.hbaHint(hbaAll)
	}
	return withHint(err, pg.Message, hint)
}

// certificateHint says what makes a server trusted whose certificate is not ours to
// sign: that of a managed server, or of one that asks for passwords.
func (d *database) certificateHint(err error) error {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown || d.credentials.method == resource.AuthCertificate {
		return err
	}
	hint := "Set tls.ca_cert of the database to the authority that signed it, or tls.trust_system_cert_pool if every system knows it."
	switch {
	case d.resource.CACert() != "":
		hint = "The authority in tls.ca_cert of the database has not signed it. Put the right one there."
	case d.resource.Type() == resource.TypeRDS:
		hint = "The roots of Amazon RDS that Postern brings along have not signed it: those of GovCloud, China and new regions are not among them. " +
			"Download the region's certificate bundle from Amazon, and put it into tls.ca_cert of the database."
	}
	f := *fault.Of(err)
	f.Hint, f.Cause = hint, err
	return &f
}

// lacksConnect reports whether a login was refused for want of the CONNECT
// privilege. A start-up parameter that the user may not set has the same
// SQLSTATE, and comes from elsewhere in the server.
func lacksConnect(pg *pgconn.PgError) bool {
	return pg.Code == insufficientPrivilege && (pg.Routine == "" || pg.Routine == "CheckMyDatabase")
}

// grantConnect lists one statement for each role; any one of them is enough.
func grantConnect(dbname string, roles []string) string {
	if len(roles) == 0 {
		return fmt.Sprintf("Give the user a db role that may connect, or: GRANT CONNECT ON DATABASE %s TO PUBLIC;", quote(dbname))
	}
	var lines []string
	for _, role := range roles {
		lines = append(lines, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", quote(dbname), quote(role)))
	}
	return strings.Join(lines, "\n")
}

// withHint returns err, which PostgreSQL reported, with a hint of ours.
func withHint(err error, text, hint string) error {
	if hint == "" {
		return err
	}
	return fault.New(fault.Denied, text).WithHint(hint).WithCause(err)
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
