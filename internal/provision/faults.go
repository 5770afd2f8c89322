package provision

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// SQLSTATEs that decisions are made by ("PostgreSQL Error Codes").
const (
	codeReadOnly             = "25006"
	codeDependents           = "2BP01"
	codeDivisionByZero       = "22012"
	codeInsufficientRights   = "42501"
	codeUndefinedObject      = "42704"
	codeDuplicateObject      = "42710"
	codeUndefinedDatabase    = "3D000"
	codeInvalidAuthorization = "28000"
	codeInvalidPassword      = "28P01"
	codeLockTimeout          = "55P03"
	codeStatementTimeout     = "57014"
)

// codeOf returns the SQLSTATE in err's chain, or "".
func codeOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// refusal is a fault that we noticed before PostgreSQL could. It carries the
// SQLSTATE that PostgreSQL would have given.
func refusal(kind fault.Kind, code, text string) *fault.Error {
	return fault.New(kind, text).WithCause(fmt.Errorf("%w: %w", errRefused, &pgconn.PgError{Severity: "ERROR", Code: code, Message: text}))
}

// errRefused marks refusals.
var errRefused = errors.New("refused before asking PostgreSQL")

// tooLate is the fault of a deadline that passed.
func tooLate(cause error) error {
	return fault.New(fault.Unavailable, "the PostgreSQL server did not answer in time").WithCause(cause)
}

// check refuses a plan that the admin may not carry out, or that must not be,
// with the SQL that repairs it. steps and over are what plan returned.
func (s *Server) check(have state, want target, steps []statement, over beyond) error {
	acc := have.Account
	switch {
	case have.Recovery:
		return readOnlyFault(nil)
	case acc.exists() && !acc.Managed:
		return refusal(fault.Conflict, codeDuplicateObject,
			fmt.Sprintf("user %q already exists in this PostgreSQL database and is not managed by Postern", want.user)).
			WithHint("rename that role, or hand it over to Postern, which then sets its roles and disables it between sessions: GRANT " +
				quote(Group) + " TO " + quote(want.user) + ";")
	case len(steps) == 0 && !over.rights():
		return nil
	}
	for _, r := range have.Roles {
		if !r.Exists {
			return refusal(fault.NotFound, codeUndefinedObject, fmt.Sprintf("role %q does not exist", r.Name)).
				WithHint("create it, or remove it from the user's db_roles: CREATE ROLE " + quote(r.Name) + ";")
		}
	}
	if have.Admin.Superuser {
		return nil
	}
	admin := quote(s.cfg.AdminName)
	if !have.Admin.CreateRole {
		return refusal(fault.Denied, codeInsufficientRights,
			fmt.Sprintf("the admin user %q may not manage users: it lacks CREATEROLE", s.cfg.AdminName)).
			WithHint("run as superuser: ALTER ROLE " + admin + " CREATEROLE;")
	}
	if err := s.checkReplication(have, steps); err != nil {
		return err
	}
	if have.Version >= version16 {
		if missing := lackingAdminOption(have, steps); len(missing) > 0 {
			return refusal(fault.Denied, codeInsufficientRights,
				fmt.Sprintf("the admin user %q must have ADMIN OPTION on role %s", s.cfg.AdminName, quoteAll(missing))).
				WithHint("run as superuser: " + grantAdminSQL(missing, s.cfg.AdminName))
		}
	}
	if over.rights() && want.login {
		return over.fault(want.user)
	}
	return nil
}

// checkReplication refuses a plan that gives the attribute where the admin may not:
// before version 16 that is for superusers, since then for admins that have it
// themselves. Who may take it away: see [attributeWords].
func (s *Server) checkReplication(have state, steps []statement) error {
	gives := slices.ContainsFunc(steps, func(step statement) bool { return slices.Contains(step.words, replicationWord) })
	if !gives || have.Version >= version16 && have.Admin.Replication {
		return nil
	}
	f := refusal(fault.Denied, codeInsufficientRights,
		fmt.Sprintf("the admin user %q may not change who may replicate: it lacks REPLICATION", s.cfg.AdminName))
	if have.Version >= version16 {
		return f.WithHint("run as superuser: ALTER ROLE " + quote(s.cfg.AdminName) + " REPLICATION;")
	}
	return f.WithHint("before PostgreSQL 16 only superusers give REPLICATION to others; make an account by hand and name it in db_users " +
		"of a role without automatic users: CREATE ROLE replicator LOGIN REPLICATION;")
}

// lackingAdminOption returns the roles on which the steps need ADMIN OPTION, as
// version 16 asks, and the admin lacks it.
func lackingAdminOption(have state, steps []statement) []string {
	var missing []string
	for _, step := range steps {
		switch step.action {
		case createAccount:
			if have.Group.Exists && !have.Group.AdminOf {
				missing = append(missing, Group)
			}
		case comment, alter, reset, drop:
			if have.Account.exists() && !have.Account.AdminOf {
				missing = append(missing, step.user)
			}
		case grant:
			if i := slices.IndexFunc(have.Roles, func(r role) bool { return r.Name == step.role }); i >= 0 && !have.Roles[i].AdminOf {
				missing = append(missing, step.role)
			}
		case createGroup, revoke, disown, bequeath: // one that is not allowed was never planned
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func readOnlyFault(cause error) *fault.Error {
	f := refusal(fault.Unavailable, codeReadOnly,
		"users cannot be provisioned on this server: it is read-only, a replica or a reader endpoint").
		WithHint("name its writer in admin_user.uri or the label postern.dev/writer, register the primary (writer) endpoint, or switch automatic users off for this database")
	if cause != nil {
		return f.WithCause(cause)
	}
	return f
}

// finalFault gives an error that is not retried any more a kind, unless it has one.
func finalFault(err error, broken bool) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	code := codeOf(err)
	if broken || slices.Contains(passing, code) || slices.Contains(busy, code) {
		return fault.New(fault.Unavailable, "the PostgreSQL server is busy or going away; try again").WithCause(err)
	}
	return err
}

// busy are the SQLSTATEs of a server that has no time for us.
var busy = []string{
	codeLockTimeout, codeStatementTimeout,
	"25P03",                            // idle_in_transaction_session_timeout
	"53100", "53200", "53300", "53400", // out of disk, memory, connections, limits
}

// applyFault gives an error of a statement a kind and a hint.
func (s *Server) applyFault(step statement, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	sql := step.String()
	wrapped := fmt.Errorf("%s: %w", sql, err)
	switch pg.Code {
	case codeReadOnly:
		return readOnlyFault(wrapped)
	case codeUndefinedObject:
		return fault.New(fault.NotFound, pg.Message).WithCause(wrapped)
	case codeInsufficientRights:
		f := fault.New(fault.Denied, pg.Message).WithCause(wrapped)
		switch step.action {
		case grant, revoke:
			// rds_iam on every version, and superusers' roles before 16.
			return f.WithHint("run as superuser: " + grantAdminSQL([]string{step.role}, s.cfg.AdminName))
		case createGroup:
			return f.WithHint("run as superuser: ALTER ROLE " + quote(s.cfg.AdminName) + " CREATEROLE;")
		case createAccount, comment, alter, reset, disown, drop, bequeath:
			return f.WithHint("the statement was: " + sql + "; run as superuser what the admin user " + quote(s.cfg.AdminName) + " may not")
		}
		return f
	case codeDependents:
		return fault.New(fault.Conflict, pg.Message).WithDetail(pg.Detail).WithCause(wrapped).
			WithHint("the user has handed a role on; revoke what depends on it: " + sql + " CASCADE;")
	}
	return wrapped
}

// connectFault gives an error of the admin's connection a kind and a hint.
func (s *Server) connectFault(database string, err error) error {
	admin := quote(s.cfg.AdminName)
	unavailable := fault.New(fault.Unavailable, "the admin user cannot connect to this PostgreSQL server").WithCause(err)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if _, made := errors.AsType[*fault.Error](err); made {
			return err
		}
		return unavailable
	}
	unavailable = unavailable.WithDetail(pg.Message)
	switch pg.Code {
	case codeInsufficientRights:
		return fault.Newf(fault.Denied, "the admin user %q may not connect to database %q", s.cfg.AdminName, database).WithCause(err).
			WithHint("run as superuser: GRANT CONNECT ON DATABASE " + quote(database) + " TO " + admin + ";")
	case codeUndefinedDatabase:
		return fault.New(fault.NotFound, pg.Message).WithCause(err).
			WithHint("check the name of the database, and default_database of the admin user")
	case codeInvalidAuthorization, codeInvalidPassword:
		if made, ok := errors.AsType[*fault.Error](err); ok && made.Hint != "" {
			return unavailable.WithHint(made.Hint) // whoever logs in knows how
		}
		return unavailable.WithHint("check that the role exists with LOGIN (CREATE ROLE " + admin + " LOGIN CREATEROLE;) and that pg_hba.conf lets it in with its certificate")
	}
	return unavailable
}

func grantAdminSQL(roles []string, admin string) string {
	return "GRANT " + quoteAll(roles) + " TO " + quote(admin) + " WITH ADMIN OPTION;"
}

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}
