package provision

import "strings"

// attributesObject is the [attributes] of a row of pg_roles.
func attributesObject(row string) string {
	return strings.ReplaceAll(`pg_catalog.json_build_object('superuser', R.rolsuper, 'createrole', R.rolcreaterole, 'createdb', R.rolcreatedb,
      'replication', R.rolreplication, 'bypassrls', R.rolbypassrls)`, "R.", row+".")
}

// contextCTE begins an observation: self, the admin's row of pg_roles, and grp, the group.
const contextCTE = `
WITH self AS (
  SELECT * FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
), grp AS (
  SELECT oid, pg_catalog.pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') AS admin_of
  FROM pg_catalog.pg_roles WHERE rolname = '` + Group + `'
)`

// contextMembers are the members of a [state] that are the same for every account. They
// read what contextCTE begins with.
func contextMembers() string {
	return `
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'recovery', pg_catalog.pg_is_in_recovery(),
  'soon', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp() + '59 seconds'::pg_catalog.interval), 'YYYY-MM-DD HH24:MI:SS'),
  'admin', (SELECT ` + attributesObject("self") + ` FROM self),
  'group', (SELECT pg_catalog.json_build_object('exists', true, 'admin_of', admin_of) FROM grp)`
}

// accountObject is the [account] of a row acc of pg_roles. It reads self and grp too, and
// held: the memberships of acc, beside which there may be those of others.
//
// Whether a setting can be reset follows validate_option_array_item in PostgreSQL's sources:
// for parameters that every user may set, or by a superuser. Those that
// pg_settings does not know belong to extensions when their names have a dot.
func accountObject() string {
	return `pg_catalog.json_build_object(
    'name', acc.rolname,
    'oid', acc.oid::pg_catalog.int8,
    'managed', acc.oid <> (SELECT oid FROM self) AND COALESCE(
      (SELECT pg_catalog.bool_and(NOT held.admin_option) FROM held JOIN grp ON held.roleid = grp.oid WHERE held.member = acc.oid), false),
    'admin_of', pg_catalog.pg_has_role(acc.oid, 'MEMBER WITH ADMIN OPTION'),
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
          'bundle', EXISTS (SELECT FROM pg_catalog.pg_auth_members b JOIN pg_catalog.pg_roles g ON g.oid = b.roleid
            WHERE b.member = held.roleid AND NOT b.admin_option AND g.rolname = '` + BundleGroup + `'),
          'revocable', ` + revocable("held.roleid", "held.grantor") + `))
      FROM held WHERE held.member = acc.oid AND held.roleid NOT IN (SELECT oid FROM grp)),
    'heirs', (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'role', pg_catalog.pg_get_userbyid(h.member), 'grantor', pg_catalog.pg_get_userbyid(h.grantor),
          'revocable', ` + revocable("h.roleid", "h.grantor") + `))
      FROM pg_catalog.pg_auth_members h WHERE h.roleid = acc.oid AND ` + isHeir + `),
    'sessions', (SELECT pg_catalog.json_agg(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = acc.oid))`
}

// heldSelect reads the memberships of the roles acc. The columns of pg_auth_members that
// came with version 16 are read through to_jsonb, so that one text suits every version.
const heldSelect = `
  SELECT m.member, m.roleid, m.grantor, m.admin_option,
    COALESCE((pg_catalog.to_jsonb(m) ->> 'inherit_option')::pg_catalog.bool, true) AS inherit_option,
    COALESCE((pg_catalog.to_jsonb(m) ->> 'set_option')::pg_catalog.bool, true) AS set_option
  FROM pg_catalog.pg_auth_members m JOIN acc ON m.member = acc.oid`

// isHeir tells those members h of an account apart that are no administrators of it.
const isHeir = `h.member <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_auth_members o WHERE o.roleid = h.roleid AND o.member = h.member AND o.admin_option)`

// revocable is whether the admin may revoke a membership in a role that somebody granted.
func revocable(role, grantor string) string {
	return `((SELECT rolsuper FROM self)
            OR pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
            OR pg_catalog.pg_has_role(` + role + `, 'MEMBER WITH ADMIN OPTION') AND COALESCE(
              (SELECT pg_catalog.pg_has_role(g.oid, 'USAGE') FROM pg_catalog.pg_roles g WHERE g.oid = ` + grantor + `), false))`
}

// observeSQL reads everything a plan needs. $1 is the account's name, $2 the
// roles asked for as JSON. pg_roles is used because pg_authid is for superusers only.
func observeSQL() string {
	return contextCTE + `, acc AS (
  SELECT * FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text::pg_catalog.name
), held AS (` + heldSelect + `)
SELECT pg_catalog.json_build_object(
` + contextMembers() + `,
  'account', (SELECT ` + accountObject() + ` FROM acc),
  'roles', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', asked.name, 'exists', r.oid IS NOT NULL, 'superuser', COALESCE(r.rolsuper, false),
      'admin_of', COALESCE(pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'), false)))
    FROM pg_catalog.json_array_elements_text($2::pg_catalog.json) AS asked(name)
    LEFT JOIN pg_catalog.pg_roles r ON r.rolname = asked.name::pg_catalog.name)
)`
}
