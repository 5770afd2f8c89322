package provision

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/resource"
)

// bundleState is what the catalogs say about one bundle, in one logical database.
type bundleState struct {
	Version  int        `json:"version"`
	Recovery bool       `json:"recovery"`
	Now      time.Time  `json:"now"`
	Database string     `json:"database"`
	Admin    attributes `json:"admin"`
	Group    group      `json:"group"`
	Role     struct {
		OID        int64      `json:"oid"`
		Marked     bool       `json:"marked"` // a member of the group, without ADMIN OPTION
		AdminOf    bool       `json:"admin_of"`
		Login      bool       `json:"login"`
		Attributes attributes `json:"attributes"`
		Comment    string     `json:"comment"`
		MemberOf   []string   `json:"member_of"` // other roles that it holds
		Users      int        `json:"users"`     // database users that hold it
	} `json:"role"`
	ACLs int `json:"acls"` // that name the bundle, in all databases

	objects []bundleObject
	strays  []string // privileges on what no bundle has privileges on, see straysSQL
}

func (s *bundleState) exists() bool { return s.Role.OID != 0 }

// hasStrays reports whether more ACLs name the bundle than those of its objects.
func (s *bundleState) hasStrays() bool {
	held := 0
	for i := range s.objects {
		if s.objects[i].held != 0 {
			held++
		}
	}
	return s.ACLs != held
}

// class is the catalog that an object is in.
type class byte

// The classes, and the kinds of those objects that policy does not name.
const (
	classRelation class = 'c'
	classRoutine  class = 'p'
	classSchema   class = 'n'
	classDatabase class = 'd'

	kindSchema   = "schema"
	kindDatabase = "database"
)

// bundleObject is something that a bundle may have privileges on.
type bundleObject struct {
	class   class
	oid     uint32
	kind    string // one of resource.ObjectKinds, or schema or database
	schema  string
	name    string
	held    privileges
	options privileges // those of held with GRANT OPTION, which no bundle should have
	public  bool       // schema and database: everybody has USAGE or CONNECT
	usable  bool       // schema: the admin has USAGE; database: the admin may grant CONNECT
}

// nameable reports whether policy can name the object.
func (o *bundleObject) nameable() bool { return o.class == classRelation || o.class == classRoutine }

// objectFilter selects relations c or routines in schemas n that are not the system's. Names
// that begin with pg_ are reserved: pg_catalog, pg_toast, pg_temp_3.
const objectFilter = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

const relationKinds = `c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')`

// bundleRoleSQL reads the role of a bundle. $1 is its name.
func bundleRoleSQL() string {
	return contextCTE + `, me AS (
  SELECT oid, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
  FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text::pg_catalog.name
), grp AS (
  SELECT r.oid, ` + adminOf("r.oid") + ` AS admin_of
  FROM pg_catalog.pg_roles r WHERE r.rolname = '` + BundleGroup + `'
), db AS (
  SELECT oid, datname FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
)
SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'recovery', pg_catalog.pg_is_in_recovery(),
  'now', pg_catalog.clock_timestamp(),
  'database', (SELECT datname FROM db),
  'admin', (SELECT ` + attributesObject("self") + ` FROM self),
  'group', (SELECT pg_catalog.json_build_object('exists', true, 'admin_of', admin_of) FROM grp),
  'role', (SELECT pg_catalog.json_build_object(
    'oid', me.oid::pg_catalog.int8,
    'marked', EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN grp ON m.roleid = grp.oid WHERE m.member = me.oid AND NOT m.admin_option),
    'admin_of', ` + adminOf("me.oid") + `,
    'login', rolcanlogin,
    'attributes', ` + attributesObject("me") + `,
    'comment', COALESCE(pg_catalog.shobj_description(me.oid, 'pg_authid'), ''),
    'member_of', (SELECT pg_catalog.json_agg(DISTINCT pg_catalog.pg_get_userbyid(m.roleid)) FROM pg_catalog.pg_auth_members m
      WHERE m.member = me.oid AND m.roleid NOT IN (SELECT oid FROM grp)),
    'users', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_auth_members m WHERE m.roleid = me.oid AND NOT m.admin_option)) FROM me),
  'acls', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend d, me
    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = me.oid AND d.deptype = 'a'))`
}

// strayElsewhere stands for a stray that cannot be named from here.
const strayElsewhere = "an object in another database"

// straysSQL lists privileges outside of what bundleObjectsSQL lists. They can only have been
// given by hand.
const straysSQL = `
WITH me AS (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text::pg_catalog.name
), db AS (
  SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
)
SELECT COALESCE(pg_catalog.json_agg(COALESCE(
  CASE WHEN d.dbid IN (0, db.oid) THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END, '` + strayElsewhere + `')), '[]')
FROM pg_catalog.pg_shdepend d CROSS JOIN me CROSS JOIN db
LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid
LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.objid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = COALESCE(c.relnamespace, p.pronamespace,
  CASE WHEN d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass THEN d.objid END)
WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = me.oid AND d.deptype = 'a'
  AND NOT CASE WHEN d.dbid = 0 THEN d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND d.objid = db.oid
    ELSE COALESCE(d.dbid = db.oid AND d.objsubid = 0 AND ` + objectFilter + `, false) END`

// bundleObjectsSQL lists everything that a bundle may have privileges on, and what the bundle
// $1 has, the last column telling whether it owns the object.
//
// Most objects share a few access control lists, so each list is looked into once, and joined by
// its value. The conditions are such that the planner does not expect a single row, for which it
// would choose nested loops.
func bundleObjectsSQL() string {
	const me = `(SELECT oid FROM me)`
	bit := `pg_catalog.bit_or(1 << (COALESCE(pg_catalog.array_position(` + privilegeArray() + `, a.privilege_type), 31) - 1))`
	return `
WITH me AS MATERIALIZED (
  SELECT (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text::pg_catalog.name) AS oid
), ns AS MATERIALIZED (
  SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n WHERE ` + objectFilter + `
), acls AS MATERIALIZED (
  SELECT l.acl, ` + bit + ` AS held, ` + bit + ` FILTER (WHERE a.is_grantable) AS options
  FROM (
    SELECT relacl AS acl FROM pg_catalog.pg_class UNION SELECT proacl FROM pg_catalog.pg_proc
    UNION SELECT nspacl FROM ns UNION SELECT datacl FROM pg_catalog.pg_database
  ) l CROSS JOIN LATERAL pg_catalog.aclexplode(l.acl) a
  WHERE a.grantee = ` + me + ` GROUP BY l.acl
)
SELECT 'c', c.oid, c.relkind::pg_catalog.text, n.nspname, c.relname, h.held, h.options, NULL::pg_catalog.bool, NULL::pg_catalog.bool,
  c.relowner IS NOT DISTINCT FROM ` + me + `
FROM pg_catalog.pg_class c JOIN ns n ON n.oid = c.relnamespace LEFT JOIN acls h ON h.acl = c.relacl
WHERE ` + relationKinds + `
UNION ALL
SELECT 'p', c.oid, c.prokind::pg_catalog.text, n.nspname, c.proname, h.held, h.options, NULL, NULL,
  c.proowner IS NOT DISTINCT FROM ` + me + `
FROM pg_catalog.pg_proc c JOIN ns n ON n.oid = c.pronamespace LEFT JOIN acls h ON h.acl = c.proacl
UNION ALL
SELECT 'n', n.oid, '', n.nspname, n.nspname, h.held, h.options,
  pg_catalog.has_schema_privilege('public', n.oid, 'USAGE'), pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
  n.nspowner IS NOT DISTINCT FROM ` + me + `
FROM ns n LEFT JOIN acls h ON h.acl = n.nspacl
UNION ALL
SELECT 'd', d.oid, '', '', d.datname, h.held, h.options,
  pg_catalog.has_database_privilege('public', d.oid, 'CONNECT'), pg_catalog.has_database_privilege(d.oid, 'CONNECT WITH GRANT OPTION'), false
FROM pg_catalog.pg_database d LEFT JOIN acls h ON h.acl = d.datacl
WHERE d.datname = pg_catalog.current_database()`
}

// fingerprintSQL returns a text that changes when anything does that
// bundleRoleSQL and bundleObjectsSQL read: every change of a catalog row gives
// the row a new xmin. It costs a tenth of them.
const fingerprintSQL = `
WITH me AS (
  SELECT oid, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
  FROM pg_catalog.pg_roles WHERE rolname = $1::pg_catalog.text::pg_catalog.name
)
SELECT pg_catalog.concat_ws(' ',
  (SELECT pg_catalog.count(*) || ':' || pg_catalog.sum(pg_catalog.hashint8extended(c.oid::pg_catalog.int8, c.xmin::pg_catalog.text::pg_catalog.int8))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE ` + relationKinds + ` AND ` + objectFilter + `),
  (SELECT pg_catalog.count(*) || ':' || pg_catalog.sum(pg_catalog.hashint8extended(c.oid::pg_catalog.int8, c.xmin::pg_catalog.text::pg_catalog.int8))
    FROM pg_catalog.pg_proc c JOIN pg_catalog.pg_namespace n ON n.oid = c.pronamespace WHERE ` + objectFilter + `),
  (SELECT pg_catalog.count(*) || ':' || pg_catalog.sum(pg_catalog.hashint8extended(n.oid::pg_catalog.int8, n.xmin::pg_catalog.text::pg_catalog.int8))
    FROM pg_catalog.pg_namespace n WHERE ` + objectFilter + `),
  (SELECT d.oid || ':' || d.xmin FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
  (SELECT me::pg_catalog.text FROM me),
  (SELECT pg_catalog.count(*) || ':' || pg_catalog.sum(pg_catalog.hashint8extended(m.roleid::pg_catalog.int8, m.xmin::pg_catalog.text::pg_catalog.int8))
    FROM pg_catalog.pg_auth_members m JOIN me ON m.member = me.oid),
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_shdepend d, me
    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = me.oid AND d.deptype = 'a'))`

// bundle adds the observation of a bundle, with the fingerprint before it: what
// changes in between is found the next time.
func (b *batch) bundle(name string, into *bundleState, fingerprint *string) {
	b.params(fingerprintSQL, [][]byte{[]byte(name)}, func(r *pgconn.Result) error { return oneText(r, fingerprint) })
	b.params(bundleRoleSQL(), [][]byte{[]byte(name)}, func(r *pgconn.Result) error {
		*into = bundleState{}
		return decodeJSON(r, into)
	})
	b.params(bundleObjectsSQL(), [][]byte{[]byte(name)}, func(r *pgconn.Result) (err error) {
		into.objects, err = decodeObjects(r.Rows)
		return err
	})
}

// params adds a statement with parameters.
func (b *batch) params(sql string, params [][]byte, read func(*pgconn.Result) error) {
	b.queries = append(b.queries, query{
		send: func(p *pgconn.Pipeline) { p.SendQueryParams(sql, params, nil, nil, nil) },
		read: func(r *pgconn.Result, err error) error {
			if err == nil {
				err = read(r)
			}
			if err != nil {
				return fmt.Errorf("read the catalogs: %w", err)
			}
			return nil
		},
	})
}

func oneText(r *pgconn.Result, into *string) error {
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return fmt.Errorf("not exactly one value")
	}
	*into = string(r.Rows[0][0])
	return nil
}

// relationKind and routineKind translate pg_class.relkind and pg_proc.prokind.
var relationKind = map[string]string{
	"r": resource.ObjectTable, "p": resource.ObjectTable, "v": resource.ObjectView, "m": resource.ObjectMaterializedView,
	"f": resource.ObjectForeignTable, "S": resource.ObjectSequence,
}

func routineKind(prokind string) string {
	if prokind == "p" {
		return resource.ObjectProcedure
	}
	return resource.ObjectFunction // aggregates and window functions too
}

func decodeObjects(rows [][][]byte) ([]bundleObject, error) {
	objects := make([]bundleObject, 0, len(rows))
	for _, row := range rows {
		if len(row) != 10 {
			return nil, fmt.Errorf("a row of %d columns", len(row))
		}
		if string(row[9]) == "t" {
			continue // the bundle's own, since a member may have created it with SET ROLE before version 16
		}
		o := bundleObject{class: class(row[0][0]), schema: string(row[3]), name: string(row[4]), public: string(row[7]) == "t", usable: string(row[8]) == "t"}
		oid, err := strconv.ParseUint(string(row[1]), 10, 32)
		if err != nil {
			return nil, err
		}
		o.oid = uint32(oid)
		switch o.class {
		case classRelation:
			o.kind = relationKind[string(row[2])]
		case classRoutine:
			o.kind = routineKind(string(row[2]))
		case classSchema:
			o.kind = kindSchema
		case classDatabase:
			o.kind = kindDatabase
		}
		if o.held, err = decodePrivileges(row[5]); err != nil {
			return nil, err
		}
		if o.options, err = decodePrivileges(row[6]); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func decodePrivileges(text []byte) (privileges, error) {
	if text == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 32)
	return privileges(uint32(n)), err
}

// reach is what the admin can do about a privilege that is to be granted or revoked.
type reach struct {
	grantable privileges // by the admin
	public    privileges // held by everybody
	arguments string     // of a routine, as GRANT wants them
}

// reachSQL asks for the reach of objects: $1 are the oids of relations and $2 the
// privileges that each is asked about, $3 and $4 the same for routines, $5 and $6 for schemas.
func reachSQL() string {
	asked := `pg_catalog.unnest(` + privilegeArray() + `) WITH ORDINALITY AS p(name, n) WHERE (o.need >> (p.n::pg_catalog.int4 - 1)) & 1 = 1`
	bits := func(condition string) string {
		return `COALESCE((SELECT pg_catalog.bit_or(1 << (p.n::pg_catalog.int4 - 1)) FILTER (WHERE ` + condition + `) FROM ` + asked + `), 0)`
	}
	relation := func(user, suffix string) string {
		return `CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(` + user + `c.oid, p.name` + suffix + `)
      ELSE pg_catalog.has_table_privilege(` + user + `c.oid, p.name` + suffix + `) END`
	}
	const option = ` || ' WITH GRANT OPTION'`
	from := func(oids, need string) string {
		return ` FROM ROWS FROM (pg_catalog.unnest(` + oids + `::pg_catalog.oid[]), pg_catalog.unnest(` + need + `::pg_catalog.int4[])) AS o(oid, need) JOIN `
	}
	return `SELECT 'c', c.oid, ` + bits(relation("", option)) + `, ` + bits(relation("'public', ", "")) + `, ''` +
		from("$1", "$2") + `pg_catalog.pg_class c ON c.oid = o.oid
UNION ALL
SELECT 'p', c.oid, ` + bits(`pg_catalog.has_function_privilege(c.oid, p.name`+option+`)`) + `, ` + bits(`pg_catalog.has_function_privilege('public', c.oid, p.name)`) +
		`, pg_catalog.pg_get_function_identity_arguments(c.oid)` + from("$3", "$4") + `pg_catalog.pg_proc c ON c.oid = o.oid
UNION ALL
SELECT 'n', n.oid, ` + bits(`pg_catalog.has_schema_privilege(n.oid, p.name`+option+`)`) + `, 0, ''` +
		from("$5", "$6") + `pg_catalog.pg_namespace n ON n.oid = o.oid`
}

// objectID identifies an object within a logical database.
type objectID struct {
	class class
	oid   uint32
}

func (o *bundleObject) id() objectID { return objectID{o.class, o.oid} }

// reach adds the question of what the admin can do about the changes.
func (b *batch) reach(changes []change, into map[objectID]reach) {
	type list struct{ oids, need []int64 }
	lists := map[class]*list{classRelation: {}, classRoutine: {}, classSchema: {}}
	for _, c := range changes {
		if l := lists[c.object.class]; l != nil {
			l.oids = append(l.oids, int64(c.object.oid))
			l.need = append(l.need, int64((c.grant|c.revoke|c.unoption)&^otherPrivilege))
		}
	}
	var params [][]byte
	for _, c := range []class{classRelation, classRoutine, classSchema} {
		params = append(params, arrayText(lists[c].oids), arrayText(lists[c].need))
	}
	b.params(reachSQL(), params, func(r *pgconn.Result) error {
		for _, row := range r.Rows {
			oid, err := strconv.ParseUint(string(row[1]), 10, 32)
			if err != nil {
				return err
			}
			var x reach
			if x.grantable, err = decodePrivileges(row[2]); err != nil {
				return err
			}
			if x.public, err = decodePrivileges(row[3]); err != nil {
				return err
			}
			x.arguments = string(row[4])
			into[objectID{class(row[0][0]), uint32(oid)}] = x
		}
		return nil
	})
}

// arrayText is a list of numbers as PostgreSQL reads an array.
func arrayText(numbers []int64) []byte {
	if numbers == nil {
		return []byte("{}")
	}
	text, err := json.Marshal(numbers)
	if err != nil {
		panic(err) // a list of numbers always has a JSON form
	}
	text[0], text[len(text)-1] = '{', '}'
	return text
}
