package provision

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// dialect is what the text of our queries depends on.
type dialect struct {
	options bool // memberships have options, and who has ADMIN OPTION matters: since version 16
}

// dialectOf returns the dialect of the server that a connection leads to.
func dialectOf(conn *pgconn.PgConn) (dialect, error) {
	version := conn.ParameterStatus("server_version") // 15.18 (Debian 15.18-0+deb12u1), 18beta1
	digits := strings.IndexFunc(version+" ", func(c rune) bool { return c < '0' || c > '9' })
	major, err := strconv.Atoi(version[:digits])
	if err != nil {
		return dialect{}, fmt.Errorf("the server has an unknown version: %q", version)
	}
	return dialect{options: major >= version16/10000}, nil
}

// The groups by their names, NULL where there is none.
const (
	groupOID       = `pg_catalog.to_regrole('"` + Group + `"')`
	bundleGroupOID = `pg_catalog.to_regrole('"` + BundleGroup + `"')`
)

// attributesObject is the [attributes] of a row of pg_roles.
func attributesObject(row string) string {
	return strings.ReplaceAll(`pg_catalog.json_build_object('superuser', R.rolsuper, 'createrole', R.rolcreaterole, 'createdb', R.rolcreatedb,
      'replication', R.rolreplication, 'bypassrls', R.rolbypassrls)`, "R.", row+".")
}

// contextCTE begins an observation: self, the admin's row of pg_roles.
const contextCTE = `
WITH self AS (
  SELECT oid, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
)`

// contextMembers are the members of a [state] that are the same for every account. They
// read what contextCTE begins with.
func contextMembers() string {
	return `
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'recovery', pg_catalog.pg_is_in_recovery(),
  'soon', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp() + '59 seconds'::pg_catalog.interval), 'YYYY-MM-DD HH24:MI:SS'),
  'admin', (SELECT ` + attributesObject("self") + ` FROM self),
  'group', CASE WHEN ` + groupOID + ` IS NOT NULL THEN pg_catalog.json_build_object('exists', true, 'admin_of', ` + adminOf(groupOID) + `) END`
}

// accountObject is the [account] of a row acc of pg_roles. It reads self too, and
// held: the memberships of acc, beside which there may be those of others.
//
// Whether a setting can be reset follows validate_option_array_item in PostgreSQL's sources:
// for parameters that every user may set, or by a superuser. Those that
// pg_settings does not know belong to extensions when their names have a dot.
func (d dialect) accountObject() string {
	return `pg_catalog.json_build_object(
    'name', acc.rolname,
    'oid', acc.oid::pg_catalog.int8,
    'managed', acc.oid <> (SELECT oid FROM self) AND COALESCE(
      (SELECT pg_catalog.bool_and(NOT held.admin_option) FROM held WHERE held.member = acc.oid AND held.roleid = ` + groupOID + `), false),
    'admin_of', ` + adminOf("acc.oid") + `,
    'login', acc.rolcanlogin,
    'inherit', acc.rolinherit,
    'attributes', ` + attributesObject("acc") + `,
    'conn_limit', acc.rolconnlimit,
    'password', pg_catalog.json_build_object(
      'dated', COALESCE(pg_catalog.isfinite(acc.rolvaliduntil), false),
      'open', COALESCE(pg_catalog.isfinite(acc.rolvaliduntil) AND acc.rolvaliduntil > pg_catalog.clock_timestamp(), false),
      'mark', CASE WHEN pg_catalog.isfinite(acc.rolvaliduntil)
        THEN pg_catalog.to_char(acc.rolvaliduntil, 'US')::pg_catalog.int4 ELSE 0 END),
    'settings', (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'database', COALESCE(d.datname, ''), 'text', c.entry, 'revocable', (SELECT rolsuper FROM self) OR COALESCE(
            (SELECT g.context = 'user' FROM pg_catalog.pg_settings g WHERE g.name = pg_catalog.split_part(c.entry, '=', 1)),
            pg_catalog.strpos(pg_catalog.split_part(c.entry, '=', 1), '.') = 0)))
      FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
      CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c(entry) WHERE s.setrole = acc.oid),
    'comment', COALESCE((SELECT d.description FROM pg_catalog.pg_shdescription d
      WHERE d.objoid = acc.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass), ''),
    'memberships', (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'role', pg_catalog.pg_get_userbyid(held.roleid), 'grantor', pg_catalog.pg_get_userbyid(held.grantor),
          'admin', held.admin_option, 'inherit', held.inherit_option, 'set', held.set_option,
          'bundle', EXISTS (SELECT FROM pg_catalog.pg_auth_members b
            WHERE b.member = held.roleid AND NOT b.admin_option AND b.roleid = ` + bundleGroupOID + `),
          'revocable', ` + d.revocable("held.roleid", "held.grantor") + `))
      FROM held WHERE held.member = acc.oid AND held.roleid IS DISTINCT FROM ` + groupOID + `),
    'held', (SELECT pg_catalog.string_agg(pg_catalog.concat(held.roleid, ' ', held.version), ',' ORDER BY held.roleid, held.grantor)
      FROM held WHERE held.member = acc.oid),
    'heirs', (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'role', pg_catalog.pg_get_userbyid(h.member), 'grantor', pg_catalog.pg_get_userbyid(h.grantor),
          'revocable', ` + d.revocable("h.roleid", "h.grantor") + `))
      FROM pg_catalog.pg_auth_members h WHERE h.roleid = acc.oid AND ` + isHeir + `),
    'sessions', (SELECT pg_catalog.json_agg(pg_catalog.pg_stat_get_backend_pid(b)) FROM pg_catalog.pg_stat_get_backend_idset() AS b
      WHERE pg_catalog.pg_stat_get_backend_userid(b) = acc.oid))`
}

// accountColumns are what [accountObject] needs of a row r of pg_roles. The settings, which are
// another table, are not among them.
const accountColumns = `r.oid, r.rolname, r.rolcanlogin, r.rolinherit, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
    r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil`

// heldSelect reads the memberships of the roles acc.
func (d dialect) heldSelect() string {
	options := "true AS inherit_option, true AS set_option"
	if d.options {
		options = "m.inherit_option, m.set_option"
	}
	return `
  SELECT m.member, m.roleid, m.grantor, m.admin_option, m.xmin AS version, ` + options + `
  FROM pg_catalog.pg_auth_members m JOIN acc ON m.member = acc.oid`
}

// isHeir tells those members h of an account apart that are no administrators of it.
const isHeir = `h.member <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_auth_members o WHERE o.roleid = h.roleid AND o.member = h.member AND o.admin_option)`

// revocable is whether the admin may revoke a membership in a role that somebody granted.
func (d dialect) revocable(role, grantor string) string {
	if !d.options {
		return "true"
	}
	return `((SELECT rolsuper FROM self) OR ` + adminOf(role) + ` AND COALESCE(
              (SELECT pg_catalog.pg_has_role(g.oid, 'USAGE') FROM pg_catalog.pg_roles g WHERE g.oid = ` + grantor + `), false))`
}

// adminOf is whether the admin has ADMIN OPTION on a role; NULL or false for none. Since version
// 16 it has that on every account that it made, and pg_has_role goes through all of them each
// time. So the admin's own membership is looked up first, which costs next to nothing before
// that, and then whether it is a member of others who have ADMIN OPTION: what it is a
// member of PostgreSQL remembers. Superusers need none. It reads what contextCTE begins with.
func adminOf(role string) string {
	return `CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members o
      WHERE o.roleid = ` + role + ` AND o.member = (SELECT oid FROM self) AND o.admin_option)
      THEN true WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < ` + strconv.Itoa(version16) + `
      THEN pg_catalog.pg_has_role(` + role + `, 'MEMBER WITH ADMIN OPTION')
      ELSE (SELECT rolsuper FROM self) OR EXISTS (SELECT FROM pg_catalog.pg_auth_members o
        WHERE o.roleid = ` + role + ` AND o.admin_option AND pg_catalog.pg_has_role(o.member, 'MEMBER') OFFSET 0 -- by the index
      ) END`
}

// observeSQL reads everything a plan needs. $1 is the account's name, $2 the
// roles asked for as JSON. pg_roles is used because pg_authid is for superusers only.
func (d dialect) observeSQL() string {
	return contextCTE + `, acc AS (
  SELECT ` + accountColumns + ` FROM pg_catalog.pg_roles r WHERE r.rolname = $1::pg_catalog.text::pg_catalog.name
), held AS (` + d.heldSelect() + `)
SELECT pg_catalog.json_build_object(
` + contextMembers() + `,
  'account', (SELECT ` + d.accountObject() + ` FROM acc),
  'roles', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', asked.name, 'exists', r.oid IS NOT NULL, 'superuser', COALESCE(r.rolsuper, false),
      'admin_of', COALESCE(` + adminOf("r.oid") + `, false)))
    FROM pg_catalog.json_array_elements_text($2::pg_catalog.json) AS asked(name)
    LEFT JOIN LATERAL (
      SELECT oid, rolsuper FROM pg_catalog.pg_roles WHERE rolname = asked.name::pg_catalog.name OFFSET 0 -- one by one, by the index
    ) r ON true)
)`
}
