package provision_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// give returns a policy that gives the permissions on objects of schemas that the
// function selects.
func give(selects func(access.Object) []string) func() provision.ObjectPolicy {
	return func() provision.ObjectPolicy {
		return provision.ObjectPolicy{Revision: 1, Permissions: func(objects []access.Object) (out access.ObjectPermissions) {
			for _, o := range objects {
				if p := selects(o); len(p) > 0 {
					out.Objects = append(out.Objects, access.ObjectPermission{Object: o, Permissions: p})
				}
			}
			return out
		}}
	}
}

// readTables gives SELECT on the tables of a schema.
func readTables(schema string) func() provision.ObjectPolicy {
	return give(func(o access.Object) []string {
		if o.Kind == resource.ObjectTable && o.Schema == schema {
			return []string{" select "}
		}
		return nil
	})
}

// bundleWant is a want of the world's database.
func (w *world) bundleWant(key string, policy func() provision.ObjectPolicy) provision.BundleWant {
	return provision.BundleWant{Database: w.db, Key: key, Roles: []string{"dev"}, Policy: policy}
}

func bundle(t testing.TB, s *provision.Server, want provision.BundleWant) *provision.Bundle {
	t.Helper()
	b, err := s.Bundle(t.Context(), want)
	if err != nil {
		t.Fatalf("bundle: %v", fault.Chain(err))
	}
	t.Cleanup(b.Release)
	return b
}

// letGrant makes the admin able to grant everything in a schema.
func (w *world) letGrant(t testing.TB, schema string) {
	t.Helper()
	w.exec(t, "GRANT USAGE ON SCHEMA %s TO %s WITH GRANT OPTION", schema, limitedAdmin)
	for _, all := range []string{"TABLES", "SEQUENCES", "ROUTINES"} {
		w.exec(t, "GRANT ALL ON ALL "+all+" IN SCHEMA %s TO %s WITH GRANT OPTION", schema, limitedAdmin)
	}
}

// grants returns what the ACLs of the world's database give a role, as
// "PRIVILEGE object".
func (w *world) grants(t testing.TB, role string) []string {
	t.Helper()
	rows, err := w.dba.Query(t.Context(), `
WITH acls AS (
  SELECT n.nspname || '.' || c.relname AS name, c.relacl AS acl FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  UNION ALL SELECT n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', p.proacl FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  UNION ALL SELECT 'schema ' || nspname, nspacl FROM pg_namespace
  UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT 'column ' || attname, attacl FROM pg_attribute
)
SELECT a.privilege_type || CASE WHEN a.is_grantable THEN '* ' ELSE ' ' END || acls.name FROM acls, aclexplode(acls.acl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE r.rolname = $1`, role)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func (w *world) checkGrants(t testing.TB, role string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), append([]string{}, w.grants(t, role)...)); diff != "" {
		t.Errorf("grants of %s (-want +got):\n%s", role, diff)
	}
}

// newSchema makes a schema that PUBLIC cannot use, and objects in it.
func (w *world) newSchema(t testing.TB, schema string, statements ...string) {
	t.Helper()
	w.exec(t, "CREATE SCHEMA %s", schema)
	for _, sql := range statements {
		w.exec(t, "SET search_path = %s", schema)
		w.exec(t, sql)
	}
	w.exec(t, "RESET search_path")
}

// TestBundleOfEveryKind grants on everything there is to grant on, under names
// made to break out of quotes, to a user who can then use it.
func TestBundleOfEveryKind(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		const hostile = `s"; DROP ROLE postgres; -- %s é`
		w.newSchema(t, hostile,
			`CREATE TABLE "t'""; --" (n int)`, `CREATE TABLE parts (n int) PARTITION BY LIST (n)`, `CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1)`,
			`CREATE VIEW v AS SELECT 1 AS n`, `CREATE MATERIALIZED VIEW m AS SELECT 1 AS n`, `CREATE SEQUENCE q`,
			`CREATE FUNCTION "f""(" (n int, "x)""" text) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
			`CREATE FUNCTION "f""(" (n bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
			`CREATE PROCEDURE p (INOUT n int) LANGUAGE sql AS 'SELECT 1'`,
			`CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int)`,
			`CREATE FOREIGN DATA WRAPPER fdw`, `CREATE SERVER srv FOREIGN DATA WRAPPER fdw`, `CREATE FOREIGN TABLE ft (n int) SERVER srv`,
			`CREATE TYPE "odd type""" AS ENUM ('a')`, `CREATE FUNCTION odd ("odd type""") RETURNS int LANGUAGE sql AS 'SELECT 1'`,
			`CREATE TABLE unwanted (n int)`,
		)
		w.letGrant(t, hostile)
		s := w.agent(t)
		b := bundle(t, s, w.bundleWant("all", give(func(o access.Object) []string {
			if o.Schema != hostile || o.Name == "unwanted" {
				return nil
			}
			switch o.Kind {
			case resource.ObjectTable:
				return []string{"SELECT", "insert", "UPDATE"}
			case resource.ObjectView, resource.ObjectMaterializedView, resource.ObjectForeignTable:
				return []string{"SELECT", "EXECUTE"}
			case resource.ObjectSequence:
				return []string{"USAGE"}
			}
			return []string{"EXECUTE", "SELECT"}
		})))
		in := hostile + "."
		w.checkGrants(t, b.Role(),
			"SELECT "+in+`t'"; --`, "INSERT "+in+`t'"; --`, "UPDATE "+in+`t'"; --`, "SELECT "+in+"parts", "INSERT "+in+"parts", "UPDATE "+in+"parts",
			"SELECT "+in+"part1", "INSERT "+in+"part1", "UPDATE "+in+"part1", "SELECT "+in+"v", "SELECT "+in+"m", "SELECT "+in+"ft", "USAGE "+in+"q",
			"EXECUTE "+in+`f"((n integer, "x)""" text)`, "EXECUTE "+in+`f"((n bigint)`, "EXECUTE "+in+"p("+w.text(t, "SELECT pg_get_function_identity_arguments(oid) FROM pg_proc WHERE proname = 'p'")+")",
			"EXECUTE "+in+"total(integer)", "EXECUTE "+in+"odd("+w.text(t, "SELECT pg_get_function_identity_arguments(oid) FROM pg_proc WHERE proname = 'odd'")+")",
			"USAGE schema "+hostile,
		)
		wantCounts := provision.Counts{
			"SELECT": {"table": 3, "view": 1, "materialized_view": 1, "foreign_table": 1}, "INSERT": {"table": 3}, "UPDATE": {"table": 3},
			"USAGE": {"sequence": 1}, "EXECUTE": {"function": 4, "procedure": 1},
		}
		if diff := cmp.Diff(wantCounts, b.Result().Counts); diff != "" || !b.Result().Created {
			t.Errorf("created %v; counts (-want +got):\n%s", b.Result().Created, diff)
		}
		if again := bundle(t, w.agent(t), w.bundleWant("all", give(func(access.Object) []string { return nil }))).Result(); !again.Changed || again.Created {
			t.Errorf("another agent with a policy that gives nothing did %+v", again)
		}
		w.checkGrants(t, b.Role())
	})
}

// text returns the one value of a query by the DBA.
func (w *world) text(t testing.TB, sql string) string {
	t.Helper()
	var text string
	if err := w.dba.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestBundleGivesRights walks through sessions of one user in two databases.
func TestBundleGivesRights(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)")
		w.newSchema(t, "other", "CREATE TABLE t2 (n int)")
		w.letGrant(t, "app")
		w.letGrant(t, "other")
		s := w.agent(t)
		alice := w.name("alice")
		b := bundle(t, s, w.bundleWant("read", readTables("app")))
		want := w.want(alice, provision.Keep, w.name("reader"))
		want.Bundle = b.Role()
		l := activate(t, s, want)
		w.check(t, "active", alice, active(sorted(w.name("reader"), b.Role())...))
		w.checkGrants(t, alice)
		conn := w.login(t, l)
		mustExec(t, conn, "SELECT * FROM app.t1")
		if _, err := conn.Exec(t.Context(), "SELECT * FROM other.t2"); pgCode(err) != "42501" {
			t.Errorf("other.t2: %v", err)
		}
		if _, err := conn.Exec(t.Context(), "SET ROLE "+q(b.Role())); (pgCode(err) == "42501") != (w.pg.Version >= 16) {
			t.Errorf("SET ROLE to the bundle: %v", err)
		}

		// A session in another place keeps this bundle; one of the same place with
		// another policy replaces it.
		elsewhere := w.want(alice, provision.Keep, w.name("reader"))
		elsewhere.DatabaseName = "postgres"
		l2 := activate(t, s, elsewhere)
		w.check(t, "second session elsewhere", alice, active(sorted(w.name("reader"), b.Role())...))
		b2 := bundle(t, s, w.bundleWant("write", readTables("other")))
		want.Bundle = b2.Role()
		l3 := activate(t, s, want)
		w.check(t, "policy has changed", alice, active(sorted(w.name("reader"), b2.Role())...))
		mustExec(t, conn, "RESET ROLE; SELECT * FROM other.t2")
		want.Bundle = ""
		l4 := activate(t, s, want)
		w.check(t, "no object permissions any more", alice, active(w.name("reader")))

		release(t, l4, provision.StillActive)
		release(t, l3, provision.StillActive)
		release(t, l2, provision.StillActive)
		establish(t, l, conn.PgConn())
		w.logout(t, conn)
		release(t, l, provision.Deactivated)
		w.check(t, "released", alice, disabled())
	})
}

func sorted(s ...string) []string {
	slices.Sort(s)
	return s
}

func mustExec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}

// TestBundleWithoutGrantOption is refused with SQL that repairs it, or accepted
// with less.
func TestBundleWithoutGrantOption(t *testing.T) {
	t.Parallel()
	for _, version := range []int{13, 15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Shared(t, version), limitedAdmin)
			w.newSchema(t, "app", "CREATE TABLE none (n int)", "CREATE TABLE few (n int)", "CREATE TABLE most (n int)", "CREATE TABLE open (n int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
			for i := range 12 {
				w.exec(t, fmt.Sprintf("CREATE TABLE app.many%d (n int)", i))
			}
			w.exec(t, "GRANT SELECT ON app.few TO %s", limitedAdmin)
			w.exec(t, "GRANT SELECT ON app.most TO %s WITH GRANT OPTION", limitedAdmin)
			w.exec(t, "GRANT SELECT, INSERT ON app.open TO PUBLIC")
			s := w.agent(t)
			want := w.bundleWant("rw", give(func(o access.Object) []string {
				switch {
				case o.Schema != "app":
					return nil
				case o.Kind == resource.ObjectFunction:
					return []string{"EXECUTE"} // which everybody has
				}
				return []string{"SELECT", "INSERT"}
			}))
			_, err := s.Bundle(t.Context(), want)
			hint := refused(t, err, fault.Denied, "42501", "GRANT USAGE ON SCHEMA \"app\" TO")
			want.Warn = true
			warned := bundle(t, s, want)
			if warned.Result().Missing == nil {
				t.Error("nothing is said to be missing")
			}
			w.repair(t, hint)
			want.Warn = false
			_, err = s.Bundle(t.Context(), want)
			if err != nil {
				hint = refused(t, err, fault.Denied, "42501", "ALL TABLES IN SCHEMA")
				w.repair(t, hint)
			}
			b := bundle(t, s, want)
			for _, table := range []string{"none", "few", "most", "many0", "many11"} {
				for _, p := range []string{"SELECT", "INSERT"} {
					if !slices.Contains(w.grants(t, b.Role()), p+" app."+table) {
						t.Errorf("no %s on %s", p, table)
					}
				}
			}
		})
	}
}

// TestBundleOfAnOwner works without grant options: the admin is a member of the owner.
func TestBundleOfAnOwner(t *testing.T) {
	t.Parallel()
	for _, version := range []int{14, 17} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Shared(t, version), limitedAdmin)
			w.exec(t, "CREATE ROLE %s NOLOGIN", w.name("owner"))
			w.exec(t, "GRANT %s TO %s", w.name("owner"), limitedAdmin)
			w.newSchema(t, "app", "CREATE TABLE t1 (n int)")
			w.exec(t, "ALTER SCHEMA app OWNER TO %s", w.name("owner"))
			w.exec(t, "ALTER TABLE app.t1 OWNER TO %s", w.name("owner"))
			b := bundle(t, w.agent(t), w.bundleWant("read", readTables("app")))
			w.checkGrants(t, b.Role(), "SELECT app.t1", "USAGE schema app")
		})
	}
}

// TestBundleDrift repairs what somebody did to a bundle by hand, and refuses what
// it cannot repair.
func TestBundleDrift(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (a int, b int)", "CREATE TABLE t2 (a int)")
		w.letGrant(t, "app")
		want := w.bundleWant("read", readTables("app"))
		b := bundle(t, w.agent(t), want)
		role := b.Role()
		exact := []string{"SELECT app.t1", "SELECT app.t2", "USAGE schema app"}
		w.checkGrants(t, role, exact...)
		// As the limited admin, who is the grantor of all that.
		admin := w.adminConn(t)
		for _, sql := range []string{
			"GRANT INSERT, DELETE ON app.t1 TO " + q(role),
			"REVOKE SELECT ON app.t2 FROM " + q(role),
			"GRANT SELECT ON app.t1 TO " + q(role) + " WITH GRANT OPTION",
			"ALTER ROLE " + q(role) + " LOGIN",
			"GRANT " + q(w.name("reader")) + " TO " + q(role),
		} {
			mustExec(t, admin, sql)
		}
		if result := bundle(t, w.agent(t), want).Result(); !result.Changed || result.Created {
			t.Errorf("the repair did %+v", result)
		}
		w.checkGrants(t, role, exact...)
		w.check(t, "repaired", role, account{Exists: true, Roles: []string{provision.BundleGroup}})

		w.exec(t, "GRANT SELECT ON pg_catalog.pg_authid TO %s", role)
		_, err := w.agent(t).Bundle(t.Context(), want)
		refused(t, err, fault.Conflict, "42501", "as the role that granted them")
		w.exec(t, "REVOKE SELECT ON pg_catalog.pg_authid FROM %s", role)
		w.exec(t, "GRANT UPDATE (b) ON app.t1 TO %s", role)
		_, err = w.agent(t).Bundle(t.Context(), want)
		refused(t, err, fault.Conflict, "42501", "as the role that granted them")
		w.exec(t, "REVOKE UPDATE (b) ON app.t1 FROM %s", role)
		bundle(t, w.agent(t), want)

		// A namesake without the marker is not ours.
		mustExec(t, admin, "REVOKE "+q(provision.BundleGroup)+" FROM "+q(role))
		_, err = w.agent(t).Bundle(t.Context(), want)
		refused(t, err, fault.Conflict, "42710", "rename or drop")
	})
}

// TestBundlePermissionsThatDoNotExist refuses the session.
func TestBundlePermissionsThatDoNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, 16), superAdmin)
	w.newSchema(t, "app", "CREATE TABLE t1 (a int)", "CREATE VIEW v1 AS SELECT 1 AS n")
	for _, tt := range []struct{ kind, permission, text string }{
		{resource.ObjectTable, "EXECUTE", `unrecognized "table" Postgres permission: "EXECUTE"`},
		{resource.ObjectTable, "FLY", `unrecognized "table" Postgres permission: "FLY"`},
		{resource.ObjectTable, "maintain", `unrecognized "table" Postgres permission: "maintain"`},
		{resource.ObjectView, "*", `unrecognized "view" Postgres permission: "*"`},
	} {
		_, err := w.agent(t).Bundle(t.Context(), w.bundleWant("bad", give(func(o access.Object) []string {
			if o.Schema == "app" && o.Kind == tt.kind {
				return []string{tt.permission}
			}
			return nil
		})))
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Of(err).Text, tt.text) {
			t.Errorf("%s on a %s: %v", tt.permission, tt.kind, err)
		}
	}
	broken := func() provision.ObjectPolicy {
		return provision.ObjectPolicy{Permissions: func(o []access.Object) access.ObjectPermissions { return access.ObjectPermissions{Dropped: len(o)} }}
	}
	_, err := w.agent(t).Bundle(context.Background(), w.bundleWant("broken", broken))
	if fault.KindOf(err) != fault.Denied {
		t.Errorf("broken policy: %v", err)
	}
	if n := w.text(t, "SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'postern-bundle-%' AND shobj_description(oid, 'pg_authid') LIKE '%"+w.db+"%'"); n != "0" {
		t.Errorf("%s bundles were made", n)
	}
}
