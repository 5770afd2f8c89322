package provision

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// checkBundleAdmin refuses to change a bundle that the admin may not change, with the SQL
// that repairs it.
func (s *Server) checkBundleAdmin(have *bundleState, name string) error {
	if have.Admin.Superuser {
		return nil
	}
	admin := quote(s.cfg.AdminName)
	if !have.Admin.CreateRole {
		return refusal(fault.Denied, codeInsufficientRights, fmt.Sprintf("the admin user %q may not manage bundles: it lacks CREATEROLE", s.cfg.AdminName)).
			WithHint("run as superuser: ALTER ROLE " + admin + " CREATEROLE;")
	}
	role := BundleGroup
	needs, has := have.Group.Exists, have.Group.AdminOf
	if have.exists() {
		role, needs, has = name, true, have.Role.AdminOf
	}
	if have.Version < version16 || !needs || has {
		return nil
	}
	return refusal(fault.Denied, codeInsufficientRights, fmt.Sprintf("the admin user %q must have ADMIN OPTION on role %q", s.cfg.AdminName, role)).
		WithHint("run as superuser: " + grantAdminSQL([]string{role}, s.cfg.AdminName))
}

// bundleFault gives an error of a statement on a bundle a kind and a hint.
func (s *Server) bundleFault(sql string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	const most = 200
	if len(sql) > most {
		sql = strings.ToValidUTF8(sql[:most], "") + "…"
	}
	wrapped := fmt.Errorf("%s: %w", sql, err)
	switch pg.Code {
	case codeReadOnly:
		return readOnlyFault(wrapped)
	case codeInsufficientRights:
		return fault.New(fault.Denied, pg.Message).WithCause(wrapped).
			WithHint("the statement was: " + sql + "; run as superuser what the admin user " + quote(s.cfg.AdminName) + " may not")
	case codeDependents:
		return fault.New(fault.Conflict, pg.Message).WithDetail(pg.Detail).WithCause(wrapped)
	}
	return wrapped
}

// missingFault says which grants the admin cannot make.
func (s *Server) missingFault(missing []change) *fault.Error {
	return refusal(fault.Denied, codeInsufficientRights, missingText(missing, s.cfg.AdminName)).
		WithHint("run as superuser: " + repairSQL(missing, s.cfg.AdminName))
}

func missingText(missing []change, admin string) string {
	objects := 0
	for _, c := range missing {
		if c.object.class != classSchema {
			objects++
		}
	}
	first := missing[slices.IndexFunc(missing, func(c change) bool { return c.object.class != classSchema || objects == 0 })]
	text := fmt.Sprintf("the admin user %q cannot grant %s on %s", admin, first.grant, objectReference(first.object, first.reach.arguments))
	if objects > 1 {
		text += fmt.Sprintf(" and %d more objects", objects-1)
	}
	return text + ": it lacks the grant option"
}

// namedSingly is how many objects of one schema a repair names before it says ALL.
const namedSingly = 10

// repairSQL returns the first of the statements that give the admin the grant options.
func repairSQL(missing []change, admin string) string {
	sql := repairStatements(missing, admin)
	if n := len(sql) - namedAtMost; n > 0 {
		sql = append(sql[:namedAtMost], fmt.Sprintf("-- and %d more statements", n))
	}
	return strings.Join(sql, " ")
}

// repairStatements returns the statements that give the admin the grant options. Many
// objects of a schema become one statement for all of them.
func repairStatements(missing []change, admin string) []string {
	type key struct {
		schema, word string
		p            privileges
	}
	var order []key
	lists := map[key][]string{}
	for _, c := range missing {
		k := key{c.object.schema, objectWord(c.object), c.grant}
		if c.object.class == classSchema {
			k.schema = ""
		}
		if lists[k] == nil {
			order = append(order, k)
		}
		lists[k] = append(lists[k], objectReference(c.object, c.reach.arguments))
	}
	slices.SortStableFunc(order, func(a, b key) int { return strings.Compare(a.schema, b.schema) }) // schemas themselves first
	var sql []string
	for _, k := range order {
		on := k.word + " " + strings.Join(lists[k], ", ")
		if k.schema != "" && len(lists[k]) > namedSingly {
			on = "ALL " + k.word + "S IN SCHEMA " + printableName(k.schema)
		}
		sql = append(sql, "GRANT "+k.p.String()+" ON "+on+" TO "+printableName(admin)+" WITH GRANT OPTION;")
	}
	return sql
}
