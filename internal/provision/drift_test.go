package provision_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// drift returns what is said about roles of the test, as "check role".
func (w *world) drift(t *testing.T, s *provision.Server, survey provision.Survey) (found []provision.Deviation, summary []string) {
	t.Helper()
	found, err := s.Drift(t.Context(), survey)
	if err != nil {
		t.Fatal(fault.Chain(err))
	}
	for _, d := range found {
		if d.Problem == "" || d.Matters == "" || d.Repair == "" && len(d.SQL) == 0 && !strings.Contains(d.Problem, "Revoke them by hand") {
			t.Errorf("not enough is said: %+v", d)
		}
		summary = append(summary, d.Check+" "+strings.TrimPrefix(d.Role, w.db+"_"))
	}
	slices.Sort(summary)
	return found, summary
}

// TestDrift makes everything wrong that can be, runs the SQL that drift prints, and
// finds nothing any more.
func TestDrift(t *testing.T) {
	t.Parallel()
	onOwnServers(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)", "CREATE TABLE t2 (n int)", "CREATE TYPE odd AS ENUM ('a')")
		w.letGrant(t, "app")
		s := w.agent(t)
		alice, bob, carol, leaver, mallory := w.name("alice"), w.name("bob"), w.name("carol"), w.name("leaver"), w.name("mallory")
		w.exec(t, "CREATE ROLE %s LOGIN", mallory)
		objects := w.bundleWant("read", readTables("app"))
		survey := provision.Survey{
			Entitlements: []provision.Entitlement{
				{User: alice, Roles: w.names("reader", "writer"), Policies: []string{objects.Key}},
				{User: bob, Roles: w.names("reader")},
				{User: carol},
				{User: mallory},
			},
			Bundles: []provision.BundleWant{objects},
		}
		b := bundle(t, s, objects)
		want := w.want(alice, provision.Keep, w.names("reader", "writer")...)
		want.Bundle = b.Role()
		own := activate(t, s, want)
		beside := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		conn, sibling := w.login(t, own), w.login(t, beside)
		for l, c := range map[*provision.Lease]*pgx.Conn{own: conn, beside: sibling} {
			if still, err := l.Established(t.Context(), c.PgConn().PID()); !still || err != nil {
				t.Fatal(still, err)
			}
		}
		for _, user := range []string{bob, carol, leaver} {
			release(t, activate(t, s, w.want(user, provision.Keep)), provision.Deactivated)
		}
		survey.Entitlements = append(survey.Entitlements, provision.Entitlement{User: leaver})
		if _, found := w.drift(t, s, survey); len(found) != 0 {
			t.Fatalf("before anything was changed: %q", found)
		}
		survey.Entitlements = survey.Entitlements[:len(survey.Entitlements)-1] // the user leaves

		w.exec(t, "ALTER ROLE %s LOGIN PASSWORD 'secret'", bob)
		w.tamper(t, carol, mallory)
		w.exec(t, "ALTER ROLE %s BYPASSRLS", carol)
		w.exec(t, "ALTER ROLE %s SET log_statement = 'none'", carol)
		w.exec(t, "SET ROLE %s", w.admin)
		w.exec(t, "GRANT %s TO %s", w.name("writer"), beside.User())
		w.exec(t, "REVOKE %s FROM %s", w.name("writer"), alice)
		w.exec(t, "RESET ROLE")
		w.exec(t, "GRANT UPDATE ON app.t2 TO %s", bob)
		w.exec(t, "GRANT USAGE ON TYPE app.odd TO %s", carol)
		w.exec(t, "SET ROLE %s", w.admin)
		w.exec(t, "GRANT INSERT ON app.t1 TO %s", b.Role())
		w.exec(t, "RESET ROLE")

		old := bundle(t, w.agent(t), w.bundleWant("old", readTables("app"))) // of an agent that has gone
		w.exec(t, "COMMENT ON ROLE %s IS 'x Last used 2020-01-01T00:00:00Z.'", old.Role())

		found, summary := w.drift(t, s, survey)
		sib := strings.TrimPrefix(beside.User(), w.db+"_")
		expected := []string{
			"attributes carol", "bundle " + b.Role(), "direct bob", "direct carol", "login bob",
			"member carol", "membership alice", "membership " + sib, "orphan leaver", "orphan " + old.Role(), "settings carol", "settings carol",
		}
		if w.admin == limitedAdmin { // what only superusers see, or repair in one statement
			expected = append(expected, "attributes carol", "settings carol")
		} else {
			expected = append(expected, "password bob")
		}
		slices.Sort(expected)
		if diff := cmp.Diff(expected, summary); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, describe(found))
		}
		for _, d := range found {
			for _, sql := range d.SQL {
				if _, err := w.dba.Exec(t.Context(), sql); err != nil {
					t.Errorf("%s: %v", sql, err)
				}
			}
		}
		w.exec(t, "REVOKE USAGE ON TYPE app.odd FROM %s", carol) // of which only the place is said
		if found, summary := w.drift(t, s, survey); len(summary) != 0 {
			t.Errorf("after the repair:\n%s", describe(found))
		}
		w.logout(t, conn)
		w.logout(t, sibling)
		release(t, own, provision.Deactivated)
		release(t, beside, provision.Dropped)
	})
}

func describe(found []provision.Deviation) string {
	var b strings.Builder
	for _, d := range found {
		fmt.Fprintf(&b, "%s %s: %s (%s) %q\n", d.Check, d.Role, d.Problem, d.Repair, d.SQL)
	}
	return b.String()
}
