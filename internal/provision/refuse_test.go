package provision_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// refused checks kind, SQLSTATE and hint of a refusal, and returns the hint.
func refused(t testing.TB, err error, kind fault.Kind, code, hint string) string {
	t.Helper()
	if err == nil {
		t.Fatalf("not refused, want %v %s", kind, code)
	}
	f := fault.Of(err)
	pg, _ := errors.AsType[*pgconn.PgError](err)
	if code != "" && (pg == nil || pg.Code != code) {
		t.Errorf("%v: SQLSTATE %v, want %s", err, pg, code)
	}
	if f.Kind != kind || !strings.Contains(f.Hint, hint) {
		t.Errorf("got %v: %s (hint %q), want %v with hint %q", f.Kind, fault.Chain(err), f.Hint, kind, hint)
	}
	return f.Hint
}

// repair runs the SQL at the end of a hint as DBA.
func (w *world) repair(t testing.TB, hint string) {
	t.Helper()
	_, sql, ok := strings.Cut(hint, ": ")
	if !ok {
		t.Fatalf("the hint %q holds no SQL", hint)
	}
	if _, err := w.dba.Exec(t.Context(), sql); err != nil {
		t.Fatalf("the hint's SQL %q: %v", sql, err)
	}
}

// rows returns everything the catalogs say about a role.
func (w *world) rows(t testing.TB, user string) string {
	t.Helper()
	var text string
	err := w.dba.QueryRow(t.Context(), `SELECT json_build_object(
'authid', (SELECT json_agg(a) FROM pg_authid a WHERE rolname = $1),
'members', (SELECT json_agg(m ORDER BY m.roleid, m.member, m.grantor) FROM pg_auth_members m JOIN pg_authid a ON a.oid IN (m.member, m.roleid, m.grantor) WHERE a.rolname = $1),
'comment', (SELECT json_agg(d) FROM pg_shdescription d JOIN pg_authid a ON a.oid = d.objoid WHERE a.rolname = $1),
'settings', (SELECT json_agg(s) FROM pg_db_role_setting s JOIN pg_authid a ON a.oid = s.setrole WHERE a.rolname = $1),
'xmin', (SELECT json_agg(a.xmin::text) FROM pg_authid a WHERE rolname = $1))::text`, user).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestUnmanagedNamesakeIsUntouched(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s, alice := w.agent(t), w.name("alice")
		w.exec(t, "CREATE ROLE %s LOGIN CREATEDB PASSWORD 'hers' CONNECTION LIMIT 7 VALID UNTIL '2040-01-01'", alice)
		w.exec(t, "COMMENT ON ROLE %s IS 'Alice from accounting'", alice)
		w.exec(t, "GRANT %s TO %s", w.name("reader"), alice)
		w.exec(t, "ALTER ROLE %s SET work_mem = '8MB'", alice)
		before := w.rows(t, alice)

		for _, mode := range []provision.Mode{provision.Keep, provision.Drop} {
			_, err := s.Activate(t.Context(), w.want(alice, mode, w.name("writer")))
			refused(t, err, fault.Conflict, "42710", "GRANT")
			if want := `user "` + alice + `" already exists in this PostgreSQL database and is not managed by Postern`; fault.Of(err).Text != want {
				t.Errorf("text %q, want %q", fault.Of(err).Text, want)
			}
		}
		// The same when she is an administrator of the group, and for system roles and the admin itself.
		w.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", provision.Group, alice)
		t.Cleanup(func() { w.execCleanup(t, "REVOKE "+q(provision.Group)+" FROM "+q(alice)) })
		if diff := cmp.Diff(before, w.rows(t, alice)); diff == "" {
			t.Error("the rows do not show the DBA's own change")
		}
		before = w.rows(t, alice)
		for _, user := range []string{alice, "postgres", w.admin, provision.Group, w.name("reader")} {
			_, err := s.Activate(t.Context(), w.want(user, provision.Drop))
			refused(t, err, fault.Conflict, "42710", "")
		}
		if diff := cmp.Diff(before, w.rows(t, alice)); diff != "" {
			t.Errorf("alice has changed:\n%s", diff)
		}
	})
}

func TestNamesThatCannotBeARole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), superAdmin)
	s := w.agent(t)
	long := strings.Repeat("é", 32) // 64 bytes
	for _, name := range []string{"", "public", "none", "nul\x00byte", "bad\xffutf8", long, strings.Repeat("x", 64)} {
		_, err := s.Activate(t.Context(), w.want(name, provision.Keep))
		refused(t, err, fault.Invalid, "", "")
		_, err = s.Activate(t.Context(), w.want(w.name("ok"), provision.Keep, name))
		refused(t, err, fault.Invalid, "", "")
	}
	_, err := s.Activate(t.Context(), w.want("pg_monitor", provision.Keep))
	refused(t, err, fault.Invalid, "", "")
	_, err = s.Activate(t.Context(), w.want(w.name("ok"), provision.Keep, w.name("ok")))
	refused(t, err, fault.Invalid, "", "")
	w.check(t, "after", w.name("ok"), gone())
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s := w.agent(t)
		for i, hostile := range hostileNames() {
			if len(w.db)+1+len(hostile) > 63 {
				continue // see TestHostileNamesAtTheEdge
			}
			user, role := w.db+"u"+hostile, w.db+"r"+hostile
			w.exec(t, "CREATE ROLE %s", role)
			w.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", role, limitedAdmin)
			mode := provision.Mode(i % 2)
			l := activate(t, s, w.want(user, mode, role))
			w.check(t, "during", user, active(role))
			if mode == provision.Keep {
				release(t, l, provision.Deactivated)
				w.check(t, "after", user, disabled())
			} else {
				release(t, l, provision.Dropped)
				w.check(t, "after", user, gone())
			}
		}
	})
}

// The least set-up of all, repaired step by step by nothing but the hints.
func TestHintsRepairTheSetup(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Shared(t, version), "")
			w.admin = w.name("admin")
			alice := w.name("alice")
			s := w.agent(t)
			want := w.want(alice, provision.Keep, w.name("missing"))
			next := func(kind fault.Kind, code, hint string) {
				t.Helper()
				_, err := s.Activate(t.Context(), want)
				w.repair(t, refused(t, err, kind, code, hint))
			}

			w.exec(t, "CREATE ROLE %s LOGIN", w.admin)
			w.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", w.db)
			next(fault.Denied, "42501", `GRANT CONNECT ON DATABASE "`+w.db+`" TO "`+w.admin+`";`)
			next(fault.NotFound, "42704", `CREATE ROLE "`+w.name("missing")+`";`)
			next(fault.Denied, "42501", `ALTER ROLE "`+w.admin+`" CREATEROLE;`)
			if version >= 16 {
				next(fault.Denied, "42501", `GRANT "teleport-auto-user", "`+w.name("missing")+`" TO "`+w.admin+`" WITH ADMIN OPTION;`)
			}
			l := activate(t, s, want)

			// From 16 on another admin needs a right on the account.
			release(t, l, provision.Deactivated)
			if version >= 16 {
				w.exec(t, "REVOKE %s FROM %s", alice, w.admin)
				next(fault.Denied, "42501", `GRANT "`+alice+`" TO "`+w.admin+`" WITH ADMIN OPTION;`)
				l := activate(t, s, want)
				// A role that a superuser granted by hand can be revoked by a superuser only.
				w.exec(t, "GRANT %s TO %s", w.name("reader"), alice)
				next(fault.Conflict, "42501", `REVOKE "`+w.name("reader")+`" FROM "`+alice+`" GRANTED BY "postgres";`)
				release(t, l, provision.Deactivated)
			}
			w.check(t, "after", alice, disabled())
		})
	}
}

// Roles that need more than CREATEROLE on every version, as rds_iam does.
func TestRefusalByPostgreSQLItself(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		if w.admin != limitedAdmin {
			return
		}
		s, alice := w.agent(t, func(c *provision.Config) { c.ExtraRoles = w.names("mighty") }), w.name("alice")
		w.exec(t, "CREATE ROLE %s SUPERUSER", w.name("mighty"))
		_, err := s.Activate(t.Context(), w.want(alice, provision.Keep, w.name("reader")))
		refused(t, err, fault.Denied, "42501", `GRANT "`+w.name("mighty")+`" TO "limited_admin" WITH ADMIN OPTION;`)
		w.check(t, "after", alice, gone())
	})
}

func TestReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{Version: pgtest.Newest(t)}), limitedAdmin)
	s := w.agent(t)
	l := activate(t, s, w.want("alice", provision.Keep, w.name("reader")))
	w.pg.MakeReplica(t)

	_, err := s.Activate(t.Context(), w.want("alice", provision.Keep, w.name("reader")))
	refused(t, err, fault.Unavailable, "25006", "primary")
	_, err = l.Release(t.Context())
	refused(t, err, fault.Unavailable, "25006", "primary")
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v, want nothing to complain about on a replica", err)
	}
}

func TestConnectionFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), "nobody_by_that_name")
	_, err := w.agent(t).Activate(t.Context(), w.want(w.name("alice"), provision.Keep))
	refused(t, err, fault.Unavailable, "28000", `CREATE ROLE "nobody_by_that_name" LOGIN CREATEROLE;`)

	w.admin = superAdmin
	s := w.agent(t, func(c *provision.Config) { c.DefaultDatabase = "no_such_database" })
	_, err = s.Activate(t.Context(), w.want(w.name("alice"), provision.Keep))
	refused(t, err, fault.NotFound, "3D000", "default_database")
}
