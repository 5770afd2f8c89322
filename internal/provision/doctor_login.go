package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// PasswordCheckup says how to examine a server whose accounts log in with passwords.
type PasswordCheckup struct {
	// Probe begins the login of a database user, which need not exist, and stops when
	// the server asks for a SCRAM proof, which is no error. It is [ErrMD5] or
	// [ErrNotAsked], or what the server says. Required.
	Probe func(ctx context.Context, user, database string) error
	// HBA are lines of pg_hba.conf that let accounts in.
	HBA []string
}

// What a server may want of a login instead of SCRAM.
var (
	// ErrMD5 is in the chain of an error when the server asked for an MD5 proof.
	ErrMD5 = errors.New("the server asks for MD5 authentication")
	// ErrNotAsked is the error of a login that the server lets through without a proof.
	ErrNotAsked = errors.New("the server asks for nothing")
)

// setPassword is what a person does whose password must not be in a statement.
func setPassword(admin string) string {
	return "in psql, which asks for it: SET password_encryption = 'scram-sha-256'; and then \\password " + printableName(admin)
}

// adminMD5 is about an admin user whose password is stored for MD5.
func (c Checkup) adminMD5(f Finding) Finding {
	f.Problem = fmt.Sprintf("the password of the admin user %q is stored for MD5 authentication, which is not secure", c.AdminName)
	f.Advice = "give the admin user its password again, " + setPassword(c.AdminName)
	return f
}

// adminPassword is about an admin user whose password is not the right one, or who
// is not asked for it.
func (c Checkup) adminPassword(f *Finding, pg *pgconn.PgError) {
	if pg.Code == codeInvalidPassword {
		// Whether the role exists cannot be seen from outside.
		f.SQL = MakeAdminSQL(c.AdminName)
		f.Advice = "give the admin user the password that the agent is configured with, " + setPassword(c.AdminName)
		return
	}
	f.HBA = c.Password.HBA
	f.Advice = "put the lines into pg_hba.conf above others that match, and reload; for an admin user without a password, " +
		"on a Unix socket: local all " + printableName(c.AdminName) + " peer"
}

// checkLogin tries how the server asks the users for their passwords. The error
// says that this could not be seen.
func (c Checkup) checkLogin(ctx context.Context, have facts) ([]Finding, error) {
	if c.Password == nil || have.Recovery {
		return nil, nil
	}
	var all []Finding
	if have.PasswordEncryption == "md5" {
		all = append(all, Finding{
			Severity: SeverityAdvice, Check: "password_encryption",
			Problem: "password_encryption is md5: passwords that are set by hand are stored in a form that is not secure",
			Breaks:  "nothing: accounts get passwords in the form for SCRAM",
			SQL:     []string{"ALTER SYSTEM SET password_encryption = 'scram-sha-256';", "SELECT pg_catalog.pg_reload_conf();"},
		})
	}
	f := Finding{
		Severity: SeverityError, Check: "user_login", HBA: c.Password.HBA,
		Breaks: "every session with automatic users is refused",
		Advice: "put the lines into pg_hba.conf above others that match, and reload",
	}
	err := c.Password.Probe(ctx, c.probed(), have.Database)
	pg, told := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return all, nil
	case errors.Is(err, ErrMD5):
		f.Severity = SeverityAdvice
		f.Problem = "pg_hba.conf of the server says md5"
		f.Breaks = "nothing: it takes accounts with SCRAM all the same"
	case errors.Is(err, ErrNotAsked), told && pg.Routine == unknownUserRoutine:
		f.Severity = SeverityWarning
		f.Problem = "the server lets users in without asking for a password"
		f.Breaks = "nothing here; but while users have sessions, everybody who reaches the server can log in as them, past Postern"
	case told && slices.Contains([]string{codeInvalidAuthorization, codeInvalidPassword}, pg.Code):
		f.Problem = "users cannot log in with passwords: " + pg.Message
	case ctx.Err() != nil:
		return nil, err
	default:
		f.Problem = "users cannot log in with passwords: " + err.Error()
	}
	return append(all, f), nil
}

// probed returns the name of somebody who will log in.
func (c Checkup) probed() string {
	if users := c.users(); len(users) > 0 {
		return users[0]
	}
	return "postern"
}
