package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// The SQLSTATEs that decide on a hint (PostgreSQL documentation, appendix A).
const (
	insufficientPrivilege = "42501"
	invalidAuthorization  = "28000"
	invalidPassword       = "28P01"
)

const certificateLines = "Let pg_hba.conf accept client certificates, above other lines that match, and reload:\n" +
	"hostssl all             all             ::/0                    cert\n" +
	"hostssl all             all             0.0.0.0/0               cert"

// replicationLines: in pg_hba.conf, "all" databases does not cover physical replication.
const replicationLines = "Let pg_hba.conf accept client certificates for physical replication too, and reload:\n" +
	"hostssl replication     all             ::/0                    cert\n" +
	"hostssl replication     all             0.0.0.0/0               cert"

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
	case pg.Code == invalidAuthorization:
		hint = fmt.Sprintf("Create the admin user: CREATE USER %s LOGIN CREATEROLE;\n%s", quote(admin), certificateLines)
	}
	return withHint(err, fmt.Sprintf("the admin user %s cannot log in: %s", admin, pg.Message), hint)
}

// connectHint adds to a refused login of the database user what repairs it.
func (s *session) connectHint(err error) error {
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
		hint = replicationLines
	case pg.Code == invalidAuthorization:
		hint = certificateLines
	}
	return withHint(err, pg.Message, hint)
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
