package provision_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// hostileNames try to break out of quotes, formats and limits, or mean something to PostgreSQL.
func hostileNames() []string {
	return []string{
		`";drop role postgres;--`, `'; DROP ROLE postgres; --`, `a"b`, `a'b`, `a\b`, `E'\''`, `%s%I$1`, "new\nline", "tab\t", "\r\n", " ", `$$x$$`, "$1",
		"Ünïcödé", "😀", "MixedCase", "mixedcase", "public", "none", "postgres", "pg", "pg_monitor", "current_user", "session_user", "user", "all",
		`{"a":1}`, "{a,b}", "-- x", "/* x", strings.Repeat("y", 63), strings.Repeat("é", 31) + "z", "😀" + strings.Repeat("x", 59),
	}
}

// TestHostileNamesOfObjects: a bundle holds what policy gives on objects of such
// names, in a database of such a name, from roles of such names, and nothing else.
func TestHostileNamesOfObjects(t *testing.T) {
	t.Parallel()
	for _, version := range []int{13, 16, 18} {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.Start(t, pgtest.Options{Version: version}) // of its own: what nobody uses is dropped
			w := newWorld(t, pg, limitedAdmin)
			hostile := fmt.Sprintf(`"; DROP DATABASE %s; -- %%s 😀`+"\n", w.db)
			w.exec(t, "CREATE DATABASE %s", hostile)
			w.db, w.dba = hostile, pg.Superuser(t, hostile)
			roles := w.text(t, "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^(test_|postern-bundle)'")
			var exact []string
			for _, n := range hostileNames() {
				schema := n
				if strings.HasPrefix(n, "pg_") || n == "public" {
					schema = "own " + n // what exists or is reserved
				}
				w.exec(t, "CREATE SCHEMA %s", schema)
				w.exec(t, "CREATE TABLE %s.%s (n int)", schema, n)
				w.exec(t, "CREATE TABLE %s.%s (n int)", schema, "not "+n[:min(len(n), 40)])
				w.exec(t, "CREATE FUNCTION %s.%s (n %s.%s) RETURNS int LANGUAGE sql AS 'SELECT 1'", schema, n, schema, n)
				w.letGrant(t, schema)
				exact = append(exact, "SELECT "+schema+"."+n, "USAGE schema "+schema, "EXECUTE "+schema+"."+n+"("+
					w.text(t, "SELECT pg_get_function_identity_arguments(oid) FROM pg_proc ORDER BY oid DESC LIMIT 1")+")")
			}
			s := w.agent(t, func(c *provision.Config) { c.BundleUnused, c.DefaultDatabase = time.Nanosecond, "postgres" })
			want := w.bundleWant("hostile", give(func(o access.Object) []string {
				if !slices.Contains(hostileNames(), o.Name) {
					return nil
				}
				return []string{"SELECT", "EXECUTE"}[map[string]int{"table": 0, "function": 1}[o.Kind]:][:1]
			}))
			want.Roles = hostileNames()
			b, err := s.Bundle(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			w.checkGrants(t, b.Role(), exact...)
			if comment := w.text(t, "SELECT shobj_description(to_regrole('"+q(b.Role())+"'), 'pg_authid')"); !strings.Contains(comment, `'; DROP ROLE postgres; --`) {
				t.Errorf("the comment is %q", comment)
			}
			b.Release()
			w.agent(t, func(c *provision.Config) { c.BundleUnused, c.DefaultDatabase = time.Nanosecond, "postgres" }).Collect(t.Context())
			w.check(t, "collected", b.Role(), gone())
			if after := w.text(t, "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^(test_|postern-bundle)'"); after != roles {
				t.Errorf("roles were %s and are %s", roles, after)
			}
		})
	}
}

// TestHostileNamesAtTheEdge: names as long as PostgreSQL allows, of users, their
// siblings and roles.
func TestHostileNamesAtTheEdge(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s := w.agent(t)
		for _, filler := range []string{"x", "é", "😀"} {
			pad := func(n string) string {
				for len(n)+len(filler) <= 63 {
					n += filler
				}
				return n + strings.Repeat("z", 63-len(n))
			}
			user, role := pad(w.name("user")), pad(w.name("role"))
			w.exec(t, "CREATE ROLE %s", role)
			w.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", role, limitedAdmin)
			own := activate(t, s, w.want(user, provision.Keep, role))
			w.check(t, "own", user, active(role))
			beside := activate(t, s, w.want(user, provision.Keep))
			if beside.User() == user || len(beside.User()) > 63 {
				t.Errorf("the sibling of %q is %q, %d bytes", user, beside.User(), len(beside.User()))
			}
			w.check(t, "beside", beside.User(), active())
			release(t, beside, provision.Dropped)
			release(t, own, provision.Deactivated)
		}
	})
}
