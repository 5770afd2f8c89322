package provision_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// tamper changes everything about an account that the admin can repair, and hands it
// to somebody else.
func (w *world) tamper(t *testing.T, user, heir string) {
	t.Helper()
	w.exec(t, "ALTER ROLE %s CONNECTION LIMIT 0 VALID UNTIL '2001-01-01' NOINHERIT CREATEROLE", user)
	w.exec(t, "ALTER ROLE %s SET role = 'none'", user)
	w.exec(t, "ALTER ROLE %s SET row_security = off", user)
	w.exec(t, "ALTER ROLE %s IN DATABASE %s SET search_path = hidden", user, w.db)
	w.exec(t, "SET ROLE %s", w.admin) // since 16 a grant is ended by who made it
	w.exec(t, "GRANT %s TO %s", user, heir)
	w.exec(t, "RESET ROLE")
}

// tampered says what is wrong with an account, "" for nothing.
func (w *world) tampered(t *testing.T, user string) string {
	t.Helper()
	var wrong string
	err := w.dba.QueryRow(t.Context(), `
SELECT concat_ws(', ', CASE WHEN rolconnlimit <> -1 THEN 'connection limit' END, CASE WHEN isfinite(rolvaliduntil) THEN 'valid until' END,
  CASE WHEN NOT rolinherit THEN 'inherit' END, CASE WHEN rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication OR rolsuper THEN 'powers' END,
  (SELECT string_agg(c, ', ' ORDER BY c) FROM pg_db_role_setting s, unnest(s.setconfig) AS c WHERE s.setrole = r.oid),
  (SELECT 'heir ' || min(m.member::regrole::text) FROM pg_auth_members m WHERE m.roleid = r.oid AND NOT m.admin_option HAVING count(*) > 0))
FROM pg_roles r WHERE rolname = $1`, user).Scan(&wrong)
	if err != nil {
		t.Fatal(err)
	}
	return wrong
}

// TestTamperedAccounts: what somebody changed about an account is undone by the
// next connect, by the release and by the sweep.
func TestTamperedAccounts(t *testing.T) {
	t.Parallel()
	onOwnServers(t, func(t *testing.T, w *world) {
		s, alice, mallory := w.agent(t), w.name("alice"), w.name("mallory")
		w.exec(t, "CREATE ROLE %s LOGIN", mallory)
		want := w.want(alice, provision.Keep, w.name("reader"))
		l := activate(t, s, want)
		for _, step := range []struct {
			name   string
			repair func()
		}{
			{"connect", func() { release(t, activate(t, s, want), provision.StillActive) }},
			{"release", func() { release(t, l, provision.Deactivated) }},
			{"sweep", func() {
				if _, err := s.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
			}},
		} {
			w.tamper(t, alice, mallory)
			if wrong := w.tampered(t, alice); strings.Count(wrong, ",") < 6 {
				t.Fatalf("only this was changed: %s", wrong)
			}
			step.repair()
			if wrong := w.tampered(t, alice); wrong != "" {
				t.Errorf("after the %s: %s", step.name, wrong)
			}
		}
		w.check(t, "in the end", alice, disabled())
	})
}

// TestOutOfReach: powers that only a superuser can take away refuse the next
// session, with the SQL, and do not keep a release from disabling the account.
func TestOutOfReach(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Shared(t, version), limitedAdmin)
			s, alice := w.agent(t), w.name("alice")
			want := w.want(alice, provision.Keep, w.name("reader"))
			l := activate(t, s, want)
			w.exec(t, "ALTER ROLE %s BYPASSRLS", alice)
			w.exec(t, "ALTER ROLE %s SET log_statement = 'none'", alice) // no right, and a superuser's to set
			_, err := s.Activate(t.Context(), want)
			hint := refused(t, err, fault.Denied, "42501", "NOBYPASSRLS")
			release(t, l, provision.Deactivated)
			w.check(t, "released", alice, disabled())
			w.repair(t, hint)
			release(t, activate(t, s, want), provision.Deactivated)
			if wrong := w.tampered(t, alice); wrong != "log_statement=none" {
				t.Errorf("left: %s", wrong)
			}

			w.exec(t, "ALTER ROLE %s SUPERUSER", alice)
			_, err = s.Activate(t.Context(), want)
			w.repair(t, refused(t, err, fault.Denied, "42501", "NOSUPERUSER"))
			release(t, activate(t, s, want), provision.Deactivated)
		})
	}
}
