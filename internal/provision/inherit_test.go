package provision_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// withInheritor prepares the world for giving objects away, as an administrator does.
func (w *world) withInheritor(t testing.TB) *world {
	t.Helper()
	admins.Lock() // the role belongs to the whole server
	defer admins.Unlock()
	_, err := w.dba.Exec(t.Context(), "CREATE ROLE "+q(provision.Inheritor)+" NOLOGIN")
	if code := pgCode(err); err != nil && code != "42710" && code != "23505" {
		t.Fatal(err)
	}
	if w.pg.Version >= 16 {
		w.exec(t, "GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", provision.Inheritor, limitedAdmin)
	}
	// A schema that nobody but its role gets into, as no admin needs to.
	w.exec(t, "CREATE SCHEMA private")
	w.exec(t, "GRANT USAGE, CREATE ON SCHEMA private TO %s", w.name("writer"))
	return w
}

// everywhereWithInheritor is [everywhere], with an inheritor.
func everywhereWithInheritor(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	everywhere(t, func(t *testing.T, w *world) { test(t, w.withInheritor(t)) })
}

// leave opens a session of the lease, runs statements in it, and ends it.
func (w *world) leave(t testing.TB, l *provision.Lease, sql ...string) {
	t.Helper()
	conn := w.login(t, l)
	for _, sql := range sql {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	w.logout(t, conn)
}

// owner returns who owns a relation.
func (w *world) owner(t testing.TB, relation string) (owner string) {
	t.Helper()
	err := w.dba.QueryRow(t.Context(), "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = $1::text::regclass", relation).Scan(&owner)
	if err != nil {
		t.Fatalf("%s: %v", relation, err)
	}
	return owner
}

// borrowed returns the memberships of the admin in an account or the inheritor, that
// somebody could use.
func (w *world) borrowed(t testing.TB) []string {
	t.Helper()
	rows, err := w.dba.Query(t.Context(), `SELECT m.roleid::regrole::text FROM pg_auth_members m
WHERE m.member = $1::text::regrole AND COALESCE((to_jsonb(m) ->> 'inherit_option')::bool OR (to_jsonb(m) ->> 'set_option')::bool, true)
  AND (m.roleid::regrole::text LIKE '%' || $2 || '%' OR m.roleid = $3::text::regrole)
  AND m.roleid::regrole::text NOT LIKE '%\_reader' AND m.roleid::regrole::text NOT LIKE '%\_writer'`, w.admin, w.db, q(provision.Inheritor))
	if err != nil {
		t.Fatal(err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// Everything that is harmless goes to the inheritor, without anybody's rights on it, and
// the account goes.
func TestObjectsOfADroppedUser(t *testing.T) {
	t.Parallel()
	everywhereWithInheritor(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")
		l := activate(t, s, w.want(alice, provision.Reassign, w.name("writer")))
		w.leave(t, l,
			"CREATE TABLE private.parent (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text COLLATE \"C\" NOT NULL UNIQUE, b int[], c int4range, d jsonb)",
			"CREATE UNLOGGED TABLE private.child (id bigint REFERENCES private.parent ON DELETE CASCADE, r regclass, t timestamptz[])",
			"CREATE INDEX ON private.child USING hash (id)", "CREATE INDEX ON private.parent USING gin (d)",
			"ALTER TABLE private.child ADD COLUMN gone int DEFAULT 7", "ALTER TABLE private.child DROP COLUMN gone", "ALTER TABLE private.child SET (fillfactor = 50)",
			`CREATE SEQUENCE private."se""q;"`, "CREATE SEQUENCE private.owned OWNED BY private.child.id",
			"GRANT SELECT ON private.parent TO "+q(w.name("reader"))+" WITH GRANT OPTION",
			"GRANT UPDATE (a) ON private.parent TO PUBLIC", `GRANT USAGE ON SEQUENCE private."se""q;" TO PUBLIC`,
			"INSERT INTO private.parent (a) VALUES ('kept')",
		)
		w.exec(t, "GRANT USAGE ON SCHEMA private TO %s", w.name("reader"))
		w.exec(t, "SET ROLE %s", w.name("reader"))
		w.exec(t, "GRANT SELECT ON private.parent TO PUBLIC")
		w.exec(t, "RESET ROLE")
		out := release(t, l, provision.Dropped)
		moved := slices.Sorted(slices.Values(out.Moved))
		want := []string{
			"sequence private.\"se\"\"q;\"", "sequence private.owned", "sequence private.parent_id_seq", "table private.child", "table private.parent",
		}
		if diff := cmp.Diff(want, moved); diff != "" || out.NotMoved != "" || out.KeptBecause != "" {
			t.Errorf("not moved because %q, kept because %q (-want +got):\n%s", out.NotMoved, out.KeptBecause, diff)
		}
		w.check(t, "after", alice, gone())
		for _, relation := range []string{"private.parent", "private.child", `private."se""q;"`, "private.owned", "private.parent_id_seq"} {
			if got := w.owner(t, relation); got != provision.Inheritor {
				t.Errorf("%s belongs to %s", relation, got)
			}
		}
		var grants, rows int
		err := w.dba.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid
CROSS JOIN LATERAL (SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT * FROM aclexplode(a.attacl)) g
WHERE c.relnamespace = 'private'::regnamespace AND g.grantee <> c.relowner), (SELECT count(*) FROM private.parent)`).Scan(&grants, &rows)
		if err != nil || grants != 0 || rows != 1 {
			t.Errorf("%d grants and %d rows are left, %v; want none and one", grants, rows, err)
		}
		if held := w.borrowed(t); len(held) > 0 {
			t.Errorf("the admin still holds %q", held)
		}
	})
}

// What would run with the inheritor's rights, or is not understood, stays with its
// owner, and everything else that it owns with it.
func TestHarmfulObjectsAreNotMoved(t *testing.T) {
	t.Parallel()
	everywhereWithInheritor(t, func(t *testing.T, w *world) {
		if w.stock || w.admin == superAdmin && w.pg.Version != pgtest.Newest(t) {
			return // it looks at the same
		}
		s, dba := w.agent(t), w.dba
		w.exec(t, "GRANT CREATE ON DATABASE %s TO %s", w.db, w.name("writer"))
		w.exec(t, "GRANT CREATE ON SCHEMA public TO %s", w.name("writer"))
		w.exec(t, "CREATE DOMAIN public.checked AS int CHECK (VALUE > 0)")
		w.exec(t, "CREATE TYPE public.mood AS ENUM ('good')")
		w.exec(t, "CREATE TYPE public.pair AS (a int, b int)")
		w.exec(t, "CREATE TABLE public.elders (a int)")
		w.exec(t, `CREATE COLLATION public.odd (provider = icu, locale = 'und')`)
		w.exec(t, "CREATE FUNCTION public.act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
		w.exec(t, "CREATE OPERATOR CLASS public.other_ops FOR TYPE int4 USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int4, int4)")
		for i, harm := range []struct{ fault, sql, dba string }{
			{fault: "defaults", sql: "ALTER TABLE t ADD COLUMN x int DEFAULT 1"},
			{fault: "defaults", sql: "ALTER TABLE t ADD COLUMN x serial"},
			{fault: "defaults", sql: "ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS (a + 1) STORED"},
			{fault: "built in", sql: "ALTER TABLE t ADD COLUMN x public.checked"},
			{fault: "built in", sql: "ALTER TABLE t ADD COLUMN x public.mood"},
			{fault: "built in", sql: "ALTER TABLE t ADD COLUMN x public.pair[]"},
			{fault: "built in", sql: "ALTER TABLE t ADD COLUMN x pg_catalog.pg_class"},
			{fault: "built in", sql: "ALTER TABLE t ADD COLUMN x information_schema.cardinal_number"},
			{fault: "built in", sql: `ALTER TABLE t ADD COLUMN x text COLLATE public.odd`},
			{fault: "constraints", sql: "ALTER TABLE t ADD CHECK (a > 0)"},
			{fault: "constraints", sql: "ALTER TABLE t ADD COLUMN g point, ADD EXCLUDE USING gist (g WITH ~=)"},
			{fault: "indexes", sql: "CREATE INDEX ON t ((a + 1))"},
			{fault: "indexes", sql: "CREATE INDEX ON t (a) WHERE a > 0"},
			{fault: "indexes", sql: "CREATE INDEX ON t (a public.other_ops)"},
			{fault: "triggers", sql: "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION public.act()"},
			{fault: "triggers", sql: "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION public.act()"},
			{fault: "rules", sql: "CREATE RULE x AS ON INSERT TO t DO ALSO NOTIFY x"},
			{fault: "row-level security", sql: "ALTER TABLE t ENABLE ROW LEVEL SECURITY"},
			{fault: "row-level security", sql: "CREATE POLICY x ON t USING (a > 0)"},
			{fault: "inheritance", sql: "CREATE TABLE younger () INHERITS (t)"},
			{fault: "inheritance", sql: "ALTER TABLE t INHERIT public.elders", dba: "ALTER TABLE public.elders OWNER TO %s"},
			{fault: "ordinary", sql: "CREATE TABLE parted (a int) PARTITION BY LIST (a)"},
			{fault: "inheritance", sql: "CREATE TABLE parted (a int, b int) PARTITION BY LIST (a); ALTER TABLE parted ATTACH PARTITION t DEFAULT"},
			{fault: "composite", sql: "CREATE TYPE tof AS (x int); CREATE TABLE typed OF tof"},
			{fault: "extended statistics", sql: "CREATE STATISTICS x ON a, b FROM t"},
			{fault: "casts", sql: "CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE CAST (t AS int) WITH FUNCTION f(t)"},
			{fault: "ordinary", sql: "CREATE VIEW v AS SELECT a FROM t"},
			{fault: "ordinary", sql: "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
			{fault: "ordinary", sql: "CREATE TYPE e AS ENUM ('x')"},
			{fault: "ordinary", sql: "CREATE SCHEMA mine"},
			{fault: "ordinary", sql: "SELECT lo_create(0)"},
			{fault: "ordinary", sql: "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"},
			{fault: "ordinary", sql: "SELECT 1", dba: "ALTER DATABASE " + q(w.db) + " OWNER TO %s"},
			{fault: "security label", sql: "SELECT 1", dba: "INSERT INTO pg_seclabel SELECT 't'::regclass, 'pg_class'::regclass, 0, 'x', 'x' WHERE '%s' <> ''"},
			{fault: "foreign key", sql: "ALTER TABLE t ADD PRIMARY KEY (a)", dba: "CREATE TABLE public.spy (x public.checked REFERENCES t) -- %s"},
			{fault: "extension", sql: "SELECT 1", dba: "CREATE EXTENSION postgres_fdw; ALTER EXTENSION postgres_fdw ADD TABLE t -- %s"},
		} {
			t.Run(fmt.Sprint(i, " ", harm.fault), func(t *testing.T) {
				user := w.name(fmt.Sprintf("user%d", i))
				schema := fmt.Sprintf("s%d", i)
				w.exec(t, "CREATE SCHEMA %s", schema)
				w.exec(t, "GRANT USAGE, CREATE ON SCHEMA %s TO %s", schema, w.name("writer"))
				l := activate(t, s, w.want(user, provision.Reassign, w.name("writer")))
				if strings.Contains(harm.dba, "elders") {
					w.exec(t, harm.dba, user)
				}
				w.leave(t, l, "SET search_path = "+schema, "CREATE TABLE t (a int, b int)", harm.sql)
				if harm.dba != "" {
					// As a superuser can, also where that needs a provider of labels.
					for _, sql := range []string{"SET allow_system_table_mods = on", "SET search_path = " + schema, fmt.Sprintf(harm.dba, q(user)), "RESET search_path"} {
						if _, err := dba.Exec(t.Context(), sql); err != nil {
							t.Fatalf("%s: %v", sql, err)
						}
					}
				}
				out := release(t, l, provision.Deactivated)
				if !strings.Contains(out.NotMoved, harm.fault) || len(out.Moved) > 0 || len(out.Dependents) == 0 {
					t.Errorf("moved %q, not moved because %q, depends: %q; want nothing because of %q", out.Moved, out.NotMoved, out.Dependents, harm.fault)
				}
				w.check(t, "after", user, disabled())
				if got := w.owner(t, schema+".t"); got != user {
					t.Errorf("the table belongs to %s", got)
				}
				if harm.dba != "" {
					for _, sql := range []string{"ALTER DATABASE " + q(w.db) + " OWNER TO postgres", "DROP EXTENSION IF EXISTS postgres_fdw", "DROP TABLE IF EXISTS public.spy", "DELETE FROM pg_seclabel WHERE provider = 'x'", "ALTER TABLE public.elders OWNER TO postgres"} {
						if _, err := dba.Exec(t.Context(), sql); err != nil {
							t.Fatalf("%s: %v", sql, err)
						}
					}
				}
			})
		}
		if held := w.borrowed(t); len(held) > 0 {
			t.Errorf("the admin still holds %q", held)
		}
	})
}

// Without an inheritor that can be used the mode is as good as drop, and says why.
func TestNoInheritor(t *testing.T) {
	t.Parallel()
	for _, version := range []int{13, 15, 16, pgtest.Newest(t)} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Start(t, pgtest.Options{Version: version}), limitedAdmin)
			s := w.agent(t)
			w.exec(t, "GRANT CREATE ON SCHEMA public TO %s", w.name("writer"))
			leaves := func(user, sql, why string, want provision.Released) {
				t.Helper()
				l := activate(t, s, w.want(user, provision.Reassign, w.name("writer")))
				w.leave(t, l, sql)
				out := release(t, l, want)
				if !strings.Contains(out.NotMoved, why) || (out.NotMoved == "") != (why == "") {
					t.Errorf("not moved because %q, want %q", out.NotMoved, why)
				}
			}
			leaves("nothing", "SELECT 1", "", provision.Dropped)
			leaves("alice", "CREATE TABLE public.t (a int)", "does not exist", provision.Deactivated)
			if out := release(t, activate(t, s, w.want("alice", provision.Drop)), provision.Deactivated); out.NotMoved != "" {
				t.Errorf("in mode drop: %q", out.NotMoved)
			}
			w.exec(t, "CREATE ROLE %s LOGIN", provision.Inheritor)
			leaves("alice", "SELECT 1", "can log in", provision.Deactivated)
			w.exec(t, "ALTER ROLE %s NOLOGIN CREATEDB", provision.Inheritor)
			leaves("alice", "SELECT 1", "powers", provision.Deactivated)
			w.exec(t, "ALTER ROLE %s NOCREATEDB", provision.Inheritor)
			if version >= 16 {
				leaves("alice", "SELECT 1", "not a member", provision.Deactivated)
				w.exec(t, "GRANT %s TO %s WITH ADMIN FALSE, INHERIT TRUE, SET FALSE", provision.Inheritor, limitedAdmin)
			}
			leaves("alice", "SELECT 1", "", provision.Dropped)
			if got := w.owner(t, "public.t"); got != provision.Inheritor {
				t.Errorf("the table belongs to %s", got)
			}
		})
	}
}

// Objects of several logical databases, and an admin that works in one of them: each
// session gives away what is in its own, and the sweep what a crash has left, wherever it is.
func TestObjectsInSeveralDatabases(t *testing.T) {
	t.Parallel()
	onServers(t, []int{15, pgtest.Newest(t)}, limitedAdmin, func(t *testing.T, w *world) { // the sweep takes other tests' accounts too
		w.withInheritor(t)
		second := w.pg.Database(t)
		other := *w
		other.db, other.dba = second, w.pg.Superuser(t, second)
		for _, o := range []*world{w, &other} {
			o.exec(t, "GRANT CREATE ON SCHEMA public TO %s", w.name("writer"))
		}
		s, alice := w.agent(t), w.name("alice") // with the first as default database
		l := activate(t, s, other.want(alice, provision.Reassign, w.name("writer")))
		w.leave(t, l, "CREATE TABLE public.first (a int)")
		other.leave(t, l, "CREATE TABLE public.second (a int)")
		out := release(t, l, provision.Deactivated)
		if diff := cmp.Diff([]string{"table public.second"}, out.Moved); diff != "" || out.KeptBecause == "" {
			t.Errorf("kept because %q, moved (-want +got):\n%s", out.KeptBecause, diff)
		}
		w.check(t, "one database is left", alice, disabled())
		other.exec(t, "GRANT USAGE ON SCHEMA public TO %s", alice) // on which it depends
		swept := sweepOf(t, s, alice)
		if swept.Result != provision.Deactivated || len(swept.Moved) != 1 || w.owner(t, "public.first") != provision.Inheritor {
			t.Errorf("the sweep: %+v", swept)
		}
		other.exec(t, "REVOKE USAGE ON SCHEMA public FROM %s", alice)
		if swept = sweepOf(t, w.agent(t), alice); swept.Result != provision.Dropped {
			t.Errorf("the next sweep: %+v", swept)
		}
		// Where the admin does not get in, the account is disabled.
		l = activate(t, w.agent(t), other.want(alice, provision.Reassign, w.name("writer")))
		other.leave(t, l, "CREATE TABLE public.third (a int)")
		other.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", second)
		if out := release(t, l, provision.Deactivated); !strings.Contains(out.NotMoved, "may not connect") {
			t.Errorf("not moved because %q", out.NotMoved)
		}
	})
}

// sweepOf sweeps and returns what became of one account.
func sweepOf(t testing.TB, s *provision.Server, user string) provision.Outcome {
	t.Helper()
	all, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(o provision.Outcome) bool { return o.User == user })
	if i < 0 {
		t.Fatalf("%s was not swept: %+v", user, all)
	}
	return all[i]
}
