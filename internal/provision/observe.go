package provision

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// state is what the catalogs say about one account, and what the admin may do about it.
type state struct {
	Version  int     `json:"version"`  // server_version_num: 150018
	Recovery bool    `json:"recovery"` // a replica
	Soon     string  `json:"soon"`     // a bit less than a minute ahead by the server's clock, in UTC, without fractions
	Admin    admin   `json:"admin"`
	Group    group   `json:"group"`
	Account  account `json:"account"`
	Roles    []role  `json:"roles"` // those asked for
}

type admin struct {
	Name        string `json:"name"`
	Superuser   bool   `json:"superuser"`
	CreateRole  bool   `json:"createrole"`
	Replication bool   `json:"replication"`
}

type group struct {
	Exists  bool `json:"exists"`
	AdminOf bool `json:"admin_of"` // the admin has ADMIN OPTION on it
}

// account is the role with the user's name.
type account struct {
	OID         uint32        `json:"oid"` // 0: there is none
	Managed     bool          `json:"managed"`
	AdminOf     bool          `json:"admin_of"` // the admin has ADMIN OPTION on it
	Login       bool          `json:"login"`
	Inherit     bool          `json:"inherit"`
	Attributes  attributes    `json:"attributes"`
	Comment     string        `json:"comment"`     // empty: none
	Memberships []membership  `json:"memberships"` // direct ones, without the group
	Sessions    []uint32      `json:"sessions"`    // process ids of its backends
	Password    passwordState `json:"password"`
	// Heirs are members of the account. Before version 15 everybody may make others
	// members of the own role, who then have its rights.
	Heirs []string `json:"heirs"`
}

func (a account) exists() bool { return a.OID != 0 }

// passwordState is what can be seen of an account's password: nothing but VALID UNTIL.
type passwordState struct {
	Dated bool `json:"dated"` // a password would be valid for a time, not for ever and not never
	Open  bool `json:"open"`  // that time is not over
	Mark  int  `json:"mark"`  // its microseconds, which tell whose password it is
}

// attributes are the powers that no managed account has, but for Replication while
// a session is a replication connection.
type attributes struct {
	Superuser   bool `json:"superuser"`
	CreateRole  bool `json:"createrole"`
	CreateDB    bool `json:"createdb"`
	Replication bool `json:"replication"`
	BypassRLS   bool `json:"bypassrls"`
}

// membership is a row of pg_auth_members. Before version 16 there is one for a
// role, and Inherit and Set are true.
type membership struct {
	Role      string `json:"role"`
	Grantor   string `json:"grantor"`
	Admin     bool   `json:"admin"`
	Inherit   bool   `json:"inherit"`
	Set       bool   `json:"set"`
	Revocable bool   `json:"revocable"` // the admin may act for the grantor
	Bundle    bool   `json:"bundle"`    // the role is a bundle
}

// plain reports whether m grants the use of the role and nothing beyond it.
func (m membership) plain() bool { return !m.Admin && m.Inherit && m.Set }

// passive reports whether m grants what the role holds, and where that can be
// told apart not the right to become it: then nothing is done or owned in a
// bundle's name.
func (m membership) passive(version int) bool {
	return !m.Admin && m.Inherit && m.Set == (version < version16)
}

// role is a role that was asked for.
type role struct {
	Name      string `json:"name"`
	Exists    bool   `json:"exists"`
	Superuser bool   `json:"superuser"`
	AdminOf   bool   `json:"admin_of"` // the admin has ADMIN OPTION on it
}

// observeSQL reads everything a plan needs. $1 is the account's name, $2 the
// roles asked for as JSON. The columns of pg_auth_members that came with version 16
// are read through to_jsonb, so that one text suits every version. pg_roles is
// used because pg_authid is for superusers only.
const observeSQL = `
WITH self AS (
  SELECT oid, rolname, rolsuper, rolcreaterole, rolreplication FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
), grp AS (
  SELECT oid, pg_catalog.pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') AS admin_of
  FROM pg_catalog.pg_roles WHERE rolname = '` + Group + `'
), acc AS (
  SELECT oid, rolcanlogin, rolinherit, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolvaliduntil
  FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text::pg_catalog.name
), held AS (
  SELECT m.roleid, m.grantor, m.admin_option,
    COALESCE((pg_catalog.to_jsonb(m) ->> 'inherit_option')::pg_catalog.bool, true) AS inherit_option,
    COALESCE((pg_catalog.to_jsonb(m) ->> 'set_option')::pg_catalog.bool, true) AS set_option
  FROM pg_catalog.pg_auth_members m JOIN acc ON m.member = acc.oid
)
SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'recovery', pg_catalog.pg_is_in_recovery(),
  'soon', pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp() + '59 seconds'::pg_catalog.interval), 'YYYY-MM-DD HH24:MI:SS'),
  'admin', (SELECT pg_catalog.json_build_object('name', rolname, 'superuser', rolsuper, 'createrole', rolcreaterole,
    'replication', rolreplication) FROM self),
  'group', (SELECT pg_catalog.json_build_object('exists', true, 'admin_of', admin_of) FROM grp),
  'account', (SELECT pg_catalog.json_build_object(
    'oid', acc.oid::pg_catalog.int8,
    'managed', acc.oid <> (SELECT oid FROM self) AND COALESCE(
      (SELECT pg_catalog.bool_and(NOT held.admin_option) FROM held JOIN grp ON held.roleid = grp.oid), false),
    'admin_of', pg_catalog.pg_has_role(acc.oid, 'MEMBER WITH ADMIN OPTION'),
    'login', acc.rolcanlogin,
    'inherit', acc.rolinherit,
    'password', pg_catalog.json_build_object(
      'dated', COALESCE(pg_catalog.isfinite(acc.rolvaliduntil), false),
      'open', COALESCE(pg_catalog.isfinite(acc.rolvaliduntil) AND acc.rolvaliduntil > pg_catalog.clock_timestamp(), false),
      'mark', CASE WHEN pg_catalog.isfinite(acc.rolvaliduntil)
        THEN pg_catalog.to_char(acc.rolvaliduntil, 'US')::pg_catalog.int4 ELSE 0 END),
    'attributes', pg_catalog.json_build_object(
      'superuser', acc.rolsuper, 'createrole', acc.rolcreaterole, 'createdb', acc.rolcreatedb,
      'replication', acc.rolreplication, 'bypassrls', acc.rolbypassrls),
    'comment', COALESCE((SELECT d.description FROM pg_catalog.pg_shdescription d
      WHERE d.objoid = acc.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass), ''),
    'memberships', (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
          'role', pg_catalog.pg_get_userbyid(held.roleid), 'grantor', pg_catalog.pg_get_userbyid(held.grantor),
          'admin', held.admin_option, 'inherit', held.inherit_option, 'set', held.set_option,
          'bundle', EXISTS (SELECT FROM pg_catalog.pg_auth_members b JOIN pg_catalog.pg_roles g ON g.oid = b.roleid
            WHERE b.member = held.roleid AND NOT b.admin_option AND g.rolname = '` + BundleGroup + `'),
          'revocable', (SELECT rolsuper FROM self)
            OR pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
            OR pg_catalog.pg_has_role(held.roleid, 'MEMBER WITH ADMIN OPTION') AND COALESCE(
              (SELECT pg_catalog.pg_has_role(g.oid, 'USAGE') FROM pg_catalog.pg_roles g WHERE g.oid = held.grantor), false)))
      FROM held WHERE held.roleid NOT IN (SELECT oid FROM grp)),
    'heirs', (SELECT pg_catalog.json_agg(pg_catalog.pg_get_userbyid(h.member)) FROM pg_catalog.pg_auth_members h
      WHERE h.roleid = acc.oid AND NOT h.admin_option AND h.member <> (SELECT oid FROM self)
        AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 150000),
    'sessions', (SELECT pg_catalog.json_agg(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = acc.oid))
    FROM acc),
  'roles', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', asked.name, 'exists', r.oid IS NOT NULL, 'superuser', COALESCE(r.rolsuper, false),
      'admin_of', COALESCE(pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'), false)))
    FROM pg_catalog.json_array_elements_text($2::pg_catalog.json) AS asked(name)
    LEFT JOIN pg_catalog.pg_roles r ON r.rolname = asked.name::pg_catalog.name)
)`

// The names of the statements that every admin connection has prepared.
const (
	observeStatement = "postern_observe"
	virtualStatement = "postern_virtual"
	knownStatement   = "postern_known"
)

// setupSQL pins what an admin connection depends on. The limits bound how long a
// mishap can hold locks: nothing we do takes a tenth of them. The plan of
// observeSQL does not depend on its parameters, and making it costs more than using it.
const setupSQL = `SELECT
  pg_catalog.set_config('search_path', 'pg_catalog', false),
  pg_catalog.set_config('lock_timeout', '5s', false),
  pg_catalog.set_config('statement_timeout', '15s', false),
  pg_catalog.set_config('idle_in_transaction_session_timeout', '15s', false),
  pg_catalog.set_config('jit', 'off', false), -- compiling costs more than any query of ours
  pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false),
  pg_catalog.set_config('standard_conforming_strings', 'on', false)`

// prepare readies a new admin connection, in one round trip.
func prepare(ctx context.Context, conn *pgconn.PgConn) error {
	p := conn.StartPipeline(ctx)
	p.SendQueryParams(setupSQL, nil, nil, nil, nil)
	p.SendPrepare(observeStatement, observeSQL, nil)
	p.SendPrepare(virtualStatement, virtualSQL, nil)
	p.SendPrepare(knownStatement, knownSQL, nil)
	return errors.Join(p.Sync(), p.Close())
}

// observeParams returns the parameters of observeSQL.
func observeParams(user string, roles []string) [][]byte {
	if roles == nil {
		roles = []string{}
	}
	asked, err := json.Marshal(roles)
	if err != nil {
		panic(err) // a list of strings always has a JSON form
	}
	return [][]byte{[]byte(user), asked}
}

// observe reads the state of an account, in one round trip.
func observe(ctx context.Context, conn *pgconn.PgConn, user string, roles []string) (have state, err error) {
	var b batch
	b.observe(user, roles, &have)
	err = b.run(ctx, conn)
	return have, err
}
