package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// A grip is a way of a session to hold on to a right that it has: what it does
// before the right is taken away, and what it tries afterwards, again and again.
type grip struct {
	name  string
	begin []string
	try   string
}

// grips are on table lost, which PostgreSQL checks when a statement begins.
func grips(bundle string) []grip {
	return []grip{
		{"prepared statement", []string{"PREPARE p AS SELECT count(*) FROM lost"}, "EXECUTE p"},
		{"cursor of a function", []string{"BEGIN", "DECLARE f CURSOR FOR SELECT all_lost()", "FETCH 1 FROM f"}, "FETCH 1 FROM f"},
		{"cursor", []string{"BEGIN", "DECLARE c CURSOR FOR SELECT * FROM lost", "FETCH 1 FROM c"}, "FETCH 1 FROM c"},
		{"open transaction", []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM lost"}, "SELECT count(*) FROM lost"},
		{"temporary table", []string{"CREATE TEMP TABLE mine AS SELECT * FROM lost"}, "INSERT INTO mine SELECT * FROM lost"},
		{"SET ROLE", []string{"SET ROLE " + quoted(bundle)}, "SELECT count(*) FROM lost"},
	}
}

// lost reports whether a session cannot do something any more: its right is gone, or
// the session is, with 57P01.
func lost(t *testing.T, conn *pgx.Conn, sql string) bool {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if ok && pg.Code != "42501" && pg.Code != "57P01" && pg.Code != "25P02" {
		t.Errorf("%s: %v, want 42501 or 57P01", sql, err)
	}
	return err != nil
}

// objects are what the tests of changed object permissions share: a server with the tables kept
// and lost, and import rules that name them.
type objects struct {
	env  *testenv.Env
	zone string // file that a dynamic label is read from
}

func newObjects(t *testing.T, version int) *objects {
	t.Helper()
	o := &objects{zone: filepath.Join(t.TempDir(), "zone")}
	o.setZone(t, "inside")
	o.env = testenv.Start(t, testenv.Options{Version: version, Service: testenv.SeedService + "  resources:\n  - labels: {\"*\": \"*\"}\n"})
	o.env.Server.Exec(t, "CREATE DATABASE shop")
	exec(t, o.env.Server.Superuser(t, "shop"), "CREATE TABLE kept AS SELECT 1 AS n", "CREATE TABLE lost AS SELECT generate_series(1, 10000) AS n",
		"CREATE FUNCTION all_lost() RETURNS SETOF int LANGUAGE sql AS 'SELECT n FROM public.lost'",
		`GRANT ALL ON kept, lost TO "teleport-admin" WITH GRANT OPTION`)
	o.env.Apply(t, importRule("names", "'*': ['*']", "name", "{{obj.name}}", "*"))
	return o
}

func (o *objects) setZone(t *testing.T, zone string) {
	t.Helper()
	if err := os.WriteFile(o.zone+".new", []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(o.zone+".new", o.zone); err != nil {
		t.Fatal(err)
	}
}

// importRule labels the tables of a name in the databases with these labels.
func importRule(name, databases, label, value, tables string) string {
	labelName, values, _ := strings.Cut(databases, ": ")
	return fmt.Sprintf(`{kind: db_object_import_rule, version: v1, metadata: {name: %s}, spec: {database_labels: [{name: %s, values: %s}],
		mappings: [{match: {table_names: ["%s"]}, add_labels: {%s: "%s"}}]}}`, name, labelName, values, tables, label, value)
}

// reader is a role that gives SELECT on tables by their labels.
func reader(name, databases string, matches ...string) string {
	entries := ""
	for _, m := range matches {
		entries += "\n    - {match: {" + m + "}, permissions: [select]}"
	}
	return strings.Replace(testenv.Role(name, "keep"), `db_labels: {"*": "*"}`, "db_labels: {"+databases+"}", 1) + "    db_permissions:" + entries + "\n"
}

// labelled is a registered database on the server of the environment.
func (o *objects) labelled(name, labels string) string {
	return strings.Replace(database(o.env, name, "  admin_user: teleport-admin\n  dynamic_labels:\n    zone: {command: [cat, "+o.zone+"], period: 1s}\n"),
		"  name: "+name+"\n", "  name: "+name+"\n  labels: {"+labels+"}\n", 1)
}

func userResource(name string, roles, trait string) string {
	return fmt.Sprintf("{kind: user, version: v2, metadata: {name: %s}, spec: {roles: [%s], traits: {envs: [%s]}}}", name, roles, trait)
}

const everywhereLabels = `"*": "*"`

// TestNobodyHoldsOnToObjects takes the table lost away in every way there is, from
// sessions that hold on to it in every way there is.
func TestNobodyHoldsOnToObjects(t *testing.T) {
	t.Parallel()
	for _, version := range []int{15, pgtest.Newest(t)} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			o := newObjects(t, version)
			for _, kind := range []struct {
				name   string // also of the user, the role and the database
				moves  bool   // the account to another bundle
				before []string
				change func(t *testing.T)
			}{
				{"entry", true, []string{reader("entry", everywhereLabels, "name: kept", "name: lost")}, func(t *testing.T) {
					o.env.Apply(t, reader("entry", everywhereLabels, "name: kept"))
				}},
				{"deny", true, []string{reader("deny", everywhereLabels, "name: kept", "name: lost")}, func(t *testing.T) {
					o.env.Apply(t, reader("deny", everywhereLabels, "name: kept", "name: lost")+"  deny:\n    db_permissions:\n    - {match: {name: lost}, permissions: [\"*\"]}\n")
				}},
				{"rule", false, []string{reader("rule", everywhereLabels, "name: kept", "tier: open"), importRule("tiers", "'*': ['*']", "tier", "open", "lost")}, func(t *testing.T) {
					o.env.Apply(t, importRule("tiers", "'*': ['*']", "tier", "shut", "lost"))
				}},
				{"label", false, []string{reader("label", everywhereLabels, "name: kept", "level: open"), importRule("levels", "env: [dev]", "level", "open", "lost")}, func(t *testing.T) {
					o.env.Apply(t, o.labelled("label", "env: prod"))
				}},
				{"zone", false, []string{reader("zone", everywhereLabels, "name: kept", "place: open"), importRule("places", "zone: [inside]", "place", "open", "lost")}, func(t *testing.T) {
					o.setZone(t, "outside")
				}},
				{"roles", true, []string{reader("roles", everywhereLabels, "name: kept"), reader("roles_more", everywhereLabels, "name: lost"), userResource("roles", "roles, roles_more", "")}, func(t *testing.T) {
					o.env.Apply(t, userResource("roles", "roles", ""))
				}},
				{"trait", true, []string{
					reader("trait", everywhereLabels, "name: kept"), reader("trait_more", "env: '{{external.envs}}'", "name: lost"), userResource("trait", "trait, trait_more", "dev"),
				}, func(t *testing.T) { o.env.Apply(t, userResource("trait", "trait, trait_more", "prod")) }},
				{"lock", false, []string{reader("lock", everywhereLabels, "name: kept", "name: lost")}, func(t *testing.T) {
					o.env.Apply(t, "{kind: lock, version: v2, metadata: {name: lock}, spec: {target: {user: lock}, message: stop}}")
				}},
			} {
				t.Run(kind.name, func(t *testing.T) {
					// Before 16 a session may have become the bundle that its account leaves.
					o.takeAway(t, kind.name, kind.before, kind.change, !kind.moves || version >= 16)
				})
			}
		})
	}
}

func (o *objects) takeAway(t *testing.T, name string, before []string, change func(*testing.T), spares bool) {
	o.env.Apply(t, o.labelled(name, "env: dev"))
	awaitServed(t, o.env, name)
	o.env.AddUser(t, name, nil, nil)
	o.env.Apply(t, before[0])
	o.env.Apply(t, userResource(name, name, ""))
	for _, more := range before[1:] {
		o.env.Apply(t, more)
	}
	p := o.env.As(t, name)
	witness, bystander := p.Connect(t, name, "shop"), p.Connect(t, name, "shop")
	holding := grips(bundleOf(o.env.Account(t, name)))
	var sessions []*pgx.Conn
	for _, g := range holding {
		conn := p.Connect(t, name, "shop")
		for _, sql := range g.begin {
			if _, err := conn.Exec(t.Context(), sql); err != nil && g.name != "SET ROLE" { // since 16 nobody becomes a bundle
				t.Fatalf("%s: %s: %v", g.name, sql, err)
			}
		}
		sessions = append(sessions, conn)
	}
	exec(t, witness, "SELECT * FROM lost LIMIT 1", "SELECT * FROM kept")
	exec(t, bystander, "SELECT * FROM lost LIMIT 1", "BEGIN", "DECLARE k CURSOR FOR SELECT * FROM kept")
	change(t)
	limit := 2 * time.Second // a second, and one of a slow machine
	if name == "zone" {
		limit += time.Second // the label's period
	}
	for i, g := range holding {
		testenv.Within(t, limit, g.name+" is of no use any more", func() bool { return lost(t, sessions[i], g.try) })
	}
	if name == "lock" {
		return
	}
	// A session that does not use the table goes on.
	if spares {
		testenv.Eventually(t, "the witness has what is left", func() bool { return !denied(t, witness, "SELECT * FROM kept") })
		exec(t, bystander, "FETCH 1 FROM k")
	}
	if !lost(t, witness, "SELECT * FROM lost") || !lost(t, bystander, "SELECT * FROM lost") {
		t.Error("who has not used the table can still read it")
	}
	again := p.Connect(t, name, "shop")
	exec(t, again, "SELECT * FROM kept")
	if !denied(t, again, "SELECT * FROM lost") {
		t.Error("a new session can read the table")
	}
}

// TestObjectsReachRunningSessions adds object permissions while sessions run, one of
// them in a transaction.
func TestObjectsReachRunningSessions(t *testing.T) {
	t.Parallel()
	o := newObjects(t, pgtest.Newest(t))
	o.env.Apply(t, o.labelled("more", "env: dev"))
	awaitServed(t, o.env, "more")
	o.env.Apply(t, strings.Split(reader("more", everywhereLabels), "    db_permissions:")[0])
	o.env.AddUser(t, "more", []string{"more"}, nil)
	p := o.env.As(t, "more")
	conn := p.Connect(t, "more", "shop")
	if !denied(t, conn, "SELECT * FROM kept") {
		t.Error("the table can be read from the beginning")
	}
	reached := func(what, table string) {
		t.Helper()
		testenv.Within(t, 2*time.Second, what+" reaches the session", func() bool { return !denied(t, conn, "SELECT * FROM "+table) })
	}
	o.env.Apply(t, reader("more", everywhereLabels, "name: kept"))
	reached("the first entry", "kept")
	exec(t, conn, "BEGIN", "SELECT * FROM kept", "SAVEPOINT s")
	o.env.Apply(t, reader("more", everywhereLabels, "name: kept", "name: lost"))
	testenv.Within(t, 2*time.Second, "the second entry reaches the transaction", func() bool {
		got := denied(t, conn, "SELECT * FROM lost LIMIT 1")
		if got {
			exec(t, conn, "ROLLBACK TO s")
		}
		return !got
	})
	exec(t, conn, "COMMIT")
	if second := p.Connect(t, "more", "shop"); text(t, second, "SELECT current_user::text") != "more" {
		t.Error("the next session runs as somebody else")
	}
}

// TestSlowNarrowingSparesIdleSessions makes the bundle of the entries that are left take long. What was taken away
// is gone all the same, and the session goes on and gets the rest.
func TestSlowNarrowingSparesIdleSessions(t *testing.T) {
	t.Parallel()
	o := newObjects(t, pgtest.Newest(t)) // where GRANT waits for who has locked the table
	o.env.Apply(t, o.labelled("slow", "env: dev"))
	awaitServed(t, o.env, "slow")
	o.env.Apply(t, reader("slow", everywhereLabels, "name: kept", "name: lost"))
	o.env.AddUser(t, "slow", []string{"slow"}, nil)
	conn := o.env.As(t, "slow").Connect(t, "slow", "shop")
	exec(t, conn, "SELECT * FROM lost LIMIT 1", "SELECT * FROM kept")
	dba := o.env.Server.Superuser(t, "shop")
	exec(t, dba, "BEGIN", "LOCK TABLE kept")
	o.env.Apply(t, reader("slow", everywhereLabels, "name: kept"))
	testenv.Eventually(t, "the table is out of reach", func() bool { return denied(t, conn, "SELECT * FROM lost") })
	exec(t, dba, "COMMIT")
	testenv.Eventually(t, "the rest is given again", func() bool { return !denied(t, conn, "SELECT * FROM kept") })
	if !denied(t, conn, "SELECT * FROM lost") {
		t.Error("the table can be read again")
	}
}
