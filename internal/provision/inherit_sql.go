package provision

import "strconv"

// firstUserOID is the first OID that initdb did not give out (FirstNormalObjectId). What
// has a smaller one came with PostgreSQL, and only superusers can change it.
const firstUserOID = 16384

// rightsSQL reads what the admin may do about giving away what an account owns. $1 is
// the account's name.
func rightsSQL() string {
	return contextCTE + `
SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'superuser', (SELECT rolsuper FROM self),
  'acts', COALESCE((SELECT pg_catalog.pg_has_role(a.oid, 'USAGE') FROM pg_catalog.pg_roles a WHERE a.rolname = $1::pg_catalog.text::pg_catalog.name), false),
  'inheritor', (SELECT ` + inheritorObject() + ` FROM pg_catalog.pg_roles i WHERE i.rolname = '` + Inheritor + `'))`
}

// inheritorObject is the [inheritor] of a row i of pg_roles. It reads what contextCTE begins with.
func inheritorObject() string {
	return `pg_catalog.json_build_object(
    'exists', true,
    'open', i.rolcanlogin,
    'mighty', i.rolsuper OR i.rolcreaterole OR i.rolcreatedb OR i.rolreplication OR i.rolbypassrls,
    'groups', (SELECT pg_catalog.json_agg(DISTINCT g.rolname) FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
      WHERE m.member = i.oid AND g.rolname IN ('` + Group + `', '` + BundleGroup + `')),
    'acts', pg_catalog.pg_has_role(i.oid, 'USAGE'),
    'admin_of', ` + adminOf("i.oid") + `)`
}

// ownedCTE are the objects of the logical database, and of the whole server, that the
// role $1 owns. Indexes, TOAST tables and row types belong to their tables and are not listed.
const ownedCTE = `
WITH owned AS (
  SELECT s.classid, s.objid FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles o ON o.oid = s.refobjid
  WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND o.rolname = $1::pg_catalog.text::pg_catalog.name AND s.deptype = 'o'
    AND s.dbid IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
)`

// ownedSQL lists what the role $1 owns.
const ownedSQL = ownedCTE + `
SELECT COALESCE(pg_catalog.json_agg(owned.classid::pg_catalog.text || '/' || owned.objid::pg_catalog.text), '[]') FROM owned`

// belongingsSQL describes what the role $1 owns, but for what is listed in $2 as [ownedSQL] does.
//
// The fault of a table is what could make its owner run somebody else's code, or have
// others see or change it. What counts are facts, not the flags of pg_class that say
// that there may be some.
func belongingsSQL() string {
	user := strconv.Itoa(firstUserOID)
	// builtin is a column's type: of PostgreSQL, and neither a row, a domain nor an enum, nor an array of them.
	builtin := func(attribute string) string {
		return `EXISTS (SELECT FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
        WHERE t.oid = ` + attribute + `.atttypid AND t.oid < ` + user + ` AND t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
          AND t.typtype IN ('b', 'r', 'm') AND COALESCE(e.typtype IN ('b', 'r', 'm'), true))`
	}
	return ownedCTE + `, mine AS MATERIALIZED (
  SELECT l.relation FROM pg_catalog.pg_locks l
  WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
), foreign_keys AS MATERIALIZED (
  -- Keys are compared as the owner of one of the tables, with the operators and casts of the columns on both sides.
  SELECT f.conrelid, f.confrelid FROM pg_catalog.pg_constraint f
  WHERE f.contype = 'f' AND (
    EXISTS (SELECT FROM pg_catalog.unnest(f.conpfeqop || f.conppeqop || f.conffeqop) AS o(operator) WHERE o.operator >= ` + user + `)
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
      WHERE (a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey) OR a.attrelid = f.confrelid AND a.attnum = ANY (f.confkey)) AND NOT ` + builtin("a") + `))
), collations AS MATERIALIZED (
  SELECT k.oid FROM pg_catalog.pg_collation k WHERE k.collnamespace <> 'pg_catalog'::pg_catalog.regnamespace
)
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
  'id', owned.classid::pg_catalog.text || '/' || owned.objid::pg_catalog.text,
  'what', pg_catalog.pg_describe_object(owned.classid, owned.objid, 0),
  'schema', n.nspname, 'name', c.relname, 'table', c.relkind = 'r', 'locked', c.oid IN (SELECT relation FROM mine),
  'grantees', (SELECT pg_catalog.json_agg(DISTINCT CASE WHEN g.grantee = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(g.grantee) END)
    FROM (SELECT c.relacl UNION ALL SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid) AS acl(items)
    CROSS JOIN LATERAL pg_catalog.aclexplode(acl.items) AS g WHERE g.grantee <> c.relowner),
  'fault', CASE
    WHEN c.oid IS NULL OR c.relkind NOT IN ('r', 'S') THEN 'only ordinary tables and sequences are given away'
    WHEN c.relpersistence NOT IN ('p', 'u') THEN 'it is temporary'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = owned.classid AND d.objid = c.oid AND d.deptype IN ('e', 'x'))
      THEN 'it belongs to an extension'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_seclabel l WHERE l.classoid = owned.classid AND l.objoid = c.oid) THEN 'it has a security label'
    WHEN c.relkind = 'S' THEN ''
    WHEN (SELECT m.amname FROM pg_catalog.pg_am m WHERE m.oid = c.relam) IS DISTINCT FROM 'heap' THEN 'it has an access method of its own'
    WHEN c.reloftype <> 0 THEN 'it is of a composite type'
    WHEN c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
      THEN 'it takes part in inheritance or partitioning'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) THEN 'it has rules'
    WHEN c.relrowsecurity OR c.relforcerowsecurity OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid)
      THEN 'it has row-level security'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND (NOT g.tgisinternal OR g.tgfoid >= ` + user + `)) THEN 'it has triggers'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid) THEN 'it has extended statistics'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '') THEN 'it has defaults or generated columns'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (a.attcollation IN (SELECT oid FROM collations) OR NOT ` + builtin("a") + `)) THEN 'it has columns of types or collations that are not built in'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('p', 'u', 'f', 'n'))
      THEN 'it has constraints other than keys and NOT NULL'
    WHEN c.oid IN (SELECT conrelid FROM foreign_keys UNION ALL SELECT confrelid FROM foreign_keys)
      THEN 'a foreign key compares its columns with others that are not of built-in types'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class y ON y.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = y.relam
      WHERE x.indrelid = c.oid AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL OR m.oid >= ` + user + `
        OR EXISTS (SELECT FROM pg_catalog.unnest(x.indclass::pg_catalog.oid[]) AS o(class) WHERE o.class >= ` + user + `)
        OR EXISTS (SELECT FROM pg_catalog.unnest(x.indcollation::pg_catalog.oid[]) AS o(sorted) JOIN collations ON collations.oid = o.sorted)))
      THEN 'it has indexes on expressions, partial ones, or ones that are not built in'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE c.reltype IN (k.castsource, k.casttarget)) THEN 'there are casts of its row type'
    ELSE '' END) ORDER BY owned.objid), '[]')
FROM owned
LEFT JOIN pg_catalog.pg_class c ON owned.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = owned.objid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE owned.classid::pg_catalog.text || '/' || owned.objid::pg_catalog.text NOT IN (
  SELECT known.id FROM pg_catalog.json_array_elements_text($2::pg_catalog.json) AS known(id))`
}
