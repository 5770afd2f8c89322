package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// facts are what the catalogs say about everything that policy can ask for.
type facts struct {
	Version  int    `json:"version"` // server_version_num
	Recovery bool   `json:"recovery"`
	Database string `json:"database"` // from which this was seen
	// PasswordEncryption is the setting of that name.
	PasswordEncryption string `json:"password_encryption"`
	ReadOnly           struct {
		On     bool   `json:"on"`
		Source string `json:"source"` // as in pg_settings
	} `json:"read_only"`
	Admin struct {
		Superuser   bool `json:"superuser"`
		CreateRole  bool `json:"createrole"`
		Replication bool `json:"replication"`
	} `json:"admin"`
	Group     roleFacts       `json:"group"`
	Inheritor inheritor       `json:"inheritor"`
	Roles     []roleFacts     `json:"roles"`     // those that can be handed out, rds_iam and BundleGroup
	Accounts  []accountFacts  `json:"accounts"`  // managed ones, and namesakes of users
	Bundles   []string        `json:"bundles"`   // on which the admin lacks ADMIN OPTION
	Databases []databaseFacts `json:"databases"` // that take connections
}

// mustOwn reports whether the admin needs ADMIN OPTION on what it hands out.
func (have facts) mustOwn() bool { return have.Version >= version16 && !have.Admin.Superuser }

type roleFacts struct {
	Name      string `json:"name"`
	Exists    bool   `json:"exists"`
	Superuser bool   `json:"superuser"`
	AdminOf   bool   `json:"admin_of"` // the admin has ADMIN OPTION on it
}

type accountFacts struct {
	Name    string `json:"name"`
	Managed bool   `json:"managed"`
	AdminOf bool   `json:"admin_of"`
	Self    bool   `json:"self"` // it is the admin
	// Plain: it has no powers, no roles, and nobody uses it as a role of theirs.
	Plain bool `json:"plain"`
}

type databaseFacts struct {
	Name     string   `json:"name"`
	Template bool     `json:"template"`
	Admin    bool     `json:"admin"`  // has CONNECT, as the following
	Public   bool     `json:"public"` // …
	Group    bool     `json:"group"`
	Grants   bool     `json:"grants"` // the admin may grant CONNECT
	Roles    []string `json:"roles"`  // with CONNECT; looked up only where PUBLIC has none
}

func (have facts) role(name string) roleFacts {
	i := slices.IndexFunc(have.Roles, func(r roleFacts) bool { return r.Name == name })
	if i < 0 {
		return roleFacts{Name: name}
	}
	return have.Roles[i]
}

// factsSQL reads the facts. $1 are the roles and $2 the users, as JSON: only names
// that PostgreSQL would not cut off. See observeSQL about pg_auth_members.
func factsSQL() string {
	return contextCTE + `, asked AS (
  SELECT a.name, r.oid, r.rolsuper
  FROM pg_catalog.json_array_elements_text($1::pg_catalog.json) AS a(name)
  LEFT JOIN pg_catalog.pg_roles r ON r.rolname = a.name::pg_catalog.name
), people AS (
  SELECT p.name::pg_catalog.name AS name FROM pg_catalog.json_array_elements_text($2::pg_catalog.json) AS p(name)
), grp AS (
  SELECT oid, rolsuper FROM pg_catalog.pg_roles WHERE rolname = '` + Group + `'
), held AS (
  SELECT m.roleid, m.member, m.admin_option,
    COALESCE((pg_catalog.to_jsonb(m) ->> 'inherit_option')::pg_catalog.bool, true)
      OR COALESCE((pg_catalog.to_jsonb(m) ->> 'set_option')::pg_catalog.bool, true) AS used
  FROM pg_catalog.pg_auth_members m
), managed AS (
  SELECT held.member FROM held JOIN grp ON held.roleid = grp.oid
  WHERE held.member <> (SELECT oid FROM self)
  GROUP BY held.member HAVING pg_catalog.bool_and(NOT held.admin_option)
), accounts AS (
  SELECT r.oid, r.rolname, r.oid = (SELECT oid FROM self) AS self, r.oid IN (SELECT member FROM managed) AS managed,
    NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
      AND NOT EXISTS (SELECT FROM held WHERE held.member = r.oid)
      AND NOT EXISTS (SELECT FROM held WHERE held.roleid = r.oid AND held.used) AS plain
  FROM pg_catalog.pg_roles r
  WHERE r.rolname IN (SELECT name FROM people) OR r.oid IN (SELECT member FROM managed)
), dbs AS (
  SELECT oid, datname, datistemplate, pg_catalog.has_database_privilege('public', oid, 'CONNECT') AS public
  FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2
)
SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'recovery', pg_catalog.pg_is_in_recovery(),
  'database', pg_catalog.current_database(),
  'password_encryption', pg_catalog.current_setting('password_encryption'),
  'read_only', (SELECT pg_catalog.json_build_object('on', setting = 'on', 'source', source)
    FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'),
  'admin', (SELECT pg_catalog.json_build_object('superuser', rolsuper, 'createrole', rolcreaterole, 'replication', rolreplication) FROM self),
  'group', (SELECT pg_catalog.json_build_object('name', '` + Group + `', 'exists', true, 'superuser', rolsuper,
      'admin_of', ` + adminOf("grp.oid") + `) FROM grp),
  'inheritor', (SELECT ` + inheritorObject() + ` FROM pg_catalog.pg_roles i WHERE i.rolname = '` + Inheritor + `'),
  'roles', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', name, 'exists', oid IS NOT NULL, 'superuser', COALESCE(rolsuper, false),
      'admin_of', COALESCE(` + adminOf("asked.oid") + `, false))) FROM asked),
  'accounts', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', rolname, 'managed', managed, 'self', self, 'plain', plain,
      'admin_of', ` + adminOf("accounts.oid") + `) ORDER BY rolname) FROM accounts),
  'bundles', (SELECT pg_catalog.json_agg(r.rolname ORDER BY r.rolname) FROM pg_catalog.pg_auth_members m
    JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles r ON r.oid = m.member
    WHERE g.rolname = '` + BundleGroup + `' AND NOT m.admin_option AND NOT ` + adminOf("r.oid") + `),
  'databases', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', datname, 'template', datistemplate, 'public', public,
      'admin', pg_catalog.has_database_privilege(dbs.oid, 'CONNECT'),
      'grants', pg_catalog.has_database_privilege(dbs.oid, 'CONNECT WITH GRANT OPTION'),
      'group', COALESCE((SELECT pg_catalog.has_database_privilege(grp.oid, dbs.oid, 'CONNECT') FROM grp), false),
      'roles', CASE WHEN NOT public THEN (SELECT pg_catalog.json_agg(asked.name) FROM asked
        WHERE asked.oid IS NOT NULL AND pg_catalog.has_database_privilege(asked.oid, dbs.oid, 'CONNECT')) END)
      ORDER BY datname) FROM dbs)
)`
}

// observe reads the facts, under settings of our own.
func (c Checkup) observe(ctx context.Context, conn *pgconn.PgConn) (facts, error) {
	var have facts
	set := conn.ExecParams(ctx, setupSQL, nil, nil, nil, nil).Read()
	if set.Err != nil {
		return have, fmt.Errorf("prepare the connection: %w", set.Err)
	}
	roles, errRoles := json.Marshal(c.roles())
	users, errUsers := json.Marshal(c.users())
	if err := errors.Join(errRoles, errUsers); err != nil {
		return have, err
	}
	r := conn.ExecParams(ctx, factsSQL(), [][]byte{roles, users}, nil, nil, nil).Read()
	if r.Err != nil {
		return have, fmt.Errorf("read the catalogs: %w", r.Err)
	}
	return have, decodeJSON(r, &have)
}

// roles returns the roles to ask for: ours, and those that can be handed out at all.
func (c Checkup) roles() []string {
	all := []string{BundleGroup}
	if c.IAM {
		all = append(all, rdsRole)
	}
	for _, h := range c.Handouts {
		all = append(all, h.Roles...)
	}
	return validNames(all, func(role string) error { return checkRoles("", []string{role}) })
}

// users returns the users to ask for: those that can have an account.
func (c Checkup) users() []string {
	all := []string{}
	for _, h := range c.Handouts {
		all = append(all, h.Users...)
	}
	return validNames(all, checkUser)
}

func validNames(all []string, check func(string) error) []string {
	all = slices.DeleteFunc(all, func(name string) bool { return check(name) != nil })
	slices.Sort(all)
	return slices.Compact(all)
}
