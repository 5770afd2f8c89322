package provision_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// TestPreviewIsWhatHappens compares what is foretold with what is done then, for an
// account and a bundle that do not exist, that exist, and that somebody has changed.
func TestPreviewIsWhatHappens(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)", "CREATE TABLE t2 (n int)")
		w.letGrant(t, "app")
		s, alice := w.agent(t), w.name("alice")
		objects := w.bundleWant("read", readTables("app"))
		from := provision.Origins{
			Roles:   map[string][]string{w.name("reader"): {"readers"}},
			Objects: []provision.ObjectOrigin{{Role: "viewers", Permissions: objects.Policy().Permissions}},
		}
		want := w.want(alice, provision.Keep, w.name("reader"))
		before := w.rows(t, alice)
		for _, step := range []struct {
			name   string
			change func(bundle string)
			why    []string // in the reasons
		}{
			{"new", func(string) {}, []string{"does not exist", "they have no bundle", "db_permissions: role viewers", "without USAGE", "db_roles: role readers", "the bundle holds what"}},
			{"released", func(string) {}, []string{"a session is to log in", "db_roles: role readers"}},
			{"changed", func(bundle string) {
				w.exec(t, "ALTER ROLE %s CONNECTION LIMIT 3 CREATEROLE", alice)
				w.exec(t, "ALTER ROLE %s SET work_mem = '1MB'", alice)
				w.exec(t, "SET ROLE %s", w.admin)
				w.exec(t, "GRANT %s TO %s", w.name("writer"), alice)
				w.exec(t, "GRANT INSERT ON app.t1 TO %s", bundle)
				w.exec(t, "REVOKE SELECT ON app.t2 FROM %s", bundle)
				w.exec(t, "RESET ROLE")
			}, []string{"connection limit to 3", "CREATEROLE, which no", "work_mem=1MB", "policy does not give it", "no db_permissions entry", "role viewers"}},
		} {
			fresh := w.agent(t) // remembers nothing
			name := ""
			if p, err := fresh.Preview(t.Context(), want, &objects, from); err != nil {
				t.Fatal(err)
			} else {
				name = p.Bundle
			}
			step.change(name)
			p, err := fresh.Preview(t.Context(), want, &objects, from)
			if err != nil {
				t.Fatal(err)
			}
			if step.name == "new" && w.rows(t, alice) != before {
				t.Error("the preview has written something")
			}
			b := bundle(t, fresh, objects)
			want.Bundle = b.Role()
			l := activate(t, fresh, want)
			var foretold, reasons []string
			for _, s := range p.Steps {
				foretold, reasons = append(foretold, s.SQL), append(reasons, s.Why)
			}
			n := b.Result().Statements
			if b.Role() != p.Bundle || l.User() != p.User || len(foretold) < n {
				t.Fatalf("%s: foretold %+v, the bundle took %d statements", step.name, p, n)
			}
			// An account that nobody uses is taken over, which takes its lock once more.
			if diff := cmp.Diff(foretold[n:], slices.Compact(l.Result().Statements)); diff != "" {
				t.Errorf("%s: what was foretold differs from what was done (-foretold +done):\n%s", step.name, diff)
			}
			for _, why := range step.why {
				if !slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(r, why) }) {
					t.Errorf("%s: no reason says %q: %q", step.name, why, reasons)
				}
			}
			if p, err := fresh.Preview(t.Context(), want, &objects, from); err != nil || len(p.Steps) != 0 {
				t.Errorf("%s: a second session would do %+v, %v", step.name, p.Steps, err)
			}
			release(t, l, provision.Deactivated)
		}

		l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
		p, err := s.Preview(t.Context(), w.want(alice, provision.Keep), nil, from)
		if err != nil || !strings.HasPrefix(p.User, alice+"#") {
			t.Errorf("beside a session with other roles: %+v, %v; want a sibling", p, err)
		}
		alone := w.want(alice, provision.Keep)
		alone.Alone = true
		if _, err := s.Preview(t.Context(), alone, nil, from); fault.KindOf(err) != fault.Conflict {
			t.Errorf("the same where no sibling is allowed: %v", err)
		}
		_, err = s.Preview(t.Context(), w.want(alice, provision.Keep, w.name("reader"), w.name("absent")), nil, from)
		if fault.KindOf(err) != fault.NotFound {
			t.Errorf("a role that does not exist: %v", err)
		}
		release(t, l, provision.Deactivated)
	})
}
