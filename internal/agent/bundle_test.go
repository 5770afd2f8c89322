package agent_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// bundleOf returns the bundle among the roles of an account, or "".
func bundleOf(a testenv.Account) string {
	for _, role := range a.Roles {
		if strings.HasPrefix(role, "postern-bundle-") {
			return role
		}
	}
	return ""
}

// denied reports whether PostgreSQL refuses a statement for want of rights.
func denied(t *testing.T, conn *pgx.Conn, sql string) bool {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if err != nil && (!ok || pg.Code != "42501") {
		t.Fatalf("%s: %v", sql, err)
	}
	return err != nil
}

// TestSeedObjectPermissions walks through the part of the seed guide about object
// permissions, on every version of PostgreSQL.
func TestSeedObjectPermissions(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			env := testenv.Start(t, testenv.Options{Version: version})
			env.Server.Exec(t, "CREATE DATABASE app", "CREATE DATABASE side")
			dba := env.Server.Superuser(t, "app")
			exec(t, dba, "CREATE TABLE t1 (n int)", "CREATE VIEW v1 AS SELECT 1 AS n", "CREATE SCHEMA private", "CREATE TABLE private.t2 (n int)")
			// As the guide says, plus what lets the admin hand rights on.
			exec(t, dba, `GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO "teleport-admin" WITH GRANT OPTION`,
				`ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO "teleport-admin" WITH GRANT OPTION`)
			side := env.Server.Superuser(t, "side")
			exec(t, side, "CREATE TABLE s1 (n int)", `GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO "teleport-admin" WITH GRANT OPTION`)
			env.Apply(t, seedFile(t, "role-read-all-tables.yaml"))
			env.AddUser(t, "carol", []string{"read_all_tables"}, nil)
			carol := env.As(t, "carol")

			conn := carol.Connect(t, testenv.Database, "app")
			exec(t, conn, "SELECT * FROM t1")
			for _, sql := range []string{"INSERT INTO t1 VALUES (1)", "SELECT * FROM v1", "SELECT * FROM private.t2"} {
				if !denied(t, conn, sql) {
					t.Errorf("%s is allowed", sql)
				}
			}
			event := env.AwaitAudit(t, 1, of("carol", "TDB07I"))[0]
			if got := fmt.Sprint(event["permission_summary"], event["affected_object_counts"]); got != "[map[counts:map[table:1] permission:SELECT]] map[table:1]" {
				t.Errorf("the event says %s", got)
			}

			exec(t, dba, "CREATE TABLE t3 (n int)", "DROP TABLE t1")
			testenv.Within(t, 10*time.Second, "the new table can be read", func() bool { return !denied(t, conn, "SELECT * FROM t3") })

			other := carol.Connect(t, testenv.Database, "side")
			exec(t, other, "SELECT * FROM s1")
			exec(t, conn, "SELECT * FROM t3")
			bundle := bundleOf(env.Account(t, "carol"))
			testenv.Close(t, other)
			exec(t, conn, "SELECT * FROM t3")
			testenv.Close(t, conn)
			awaitAccount(t, env, "carol", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
			if n := text(t, dba, "SELECT count(*)::text FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE r.rolname = 'carol' AND d.deptype = 'a'"); n != "0" {
				t.Errorf("%s ACLs name carol", n)
			}
			if comment := text(t, dba, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", bundle); !contains(comment, "read_all_tables", "last used") {
				t.Errorf("the bundle's comment is %q", comment)
			}
		})
	}
}

// TestObjectPermissionsWithoutGrantOption refuses with the SQL that repairs it, or
// tells the client in a notice.
func TestObjectPermissionsWithoutGrantOption(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, "CREATE DATABASE stingy")
	dba := env.Server.Superuser(t, "stingy")
	exec(t, dba, "CREATE TABLE t1 (n int)", `GRANT SELECT ON t1 TO "teleport-admin"`)
	role := strings.NewReplacer("read_all_tables", "stingy_reader").Replace(seedFile(t, "role-read-all-tables.yaml"))
	env.Apply(t, role)
	env.AddUser(t, "stingy", []string{"stingy_reader"}, nil)
	p := env.As(t, "stingy")
	refused := testenv.Refused(t, p.Direct(t, identity.Route{Database: testenv.Database, DatabaseName: "stingy"}))
	refusal{"42501", `cannot grant SELECT on "public"."t1"`, `GRANT SELECT ON TABLE "public"."t1" TO "teleport-admin" WITH GRANT OPTION;`}.check(t, refused)
	if event := env.AwaitAudit(t, 1, of("stingy", "TDB07W"))[0]; !contains(event.Text("message"), "lacks the grant option") {
		t.Errorf("the event says %q", event.Text("message"))
	}
	if a := env.Account(t, "stingy"); a.Exists {
		t.Errorf("the refused session left %+v", a)
	}

	env.Apply(t, strings.Replace(role, "create_db_user_mode: keep", "create_db_user_mode: keep\n    on_missing_grant: warn", 1))
	cfg := p.Direct(t, identity.Route{Database: testenv.Database, DatabaseName: "stingy"})
	notices := make(chan *pgconn.Notice, 10)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices <- n }
	testenv.Close(t, testenv.Connect(t, cfg))
	if n := <-notices; !contains(n.Message, "not all object permissions were given") || !contains(n.Hint, "WITH GRANT OPTION") {
		t.Errorf("notice %+v", n)
	}

	_, hint, _ := strings.Cut(refused.Hint, ": ")
	exec(t, dba, hint)
	env.Apply(t, role)
	conn := p.Connect(t, testenv.Database, "stingy")
	exec(t, conn, "SELECT * FROM t1")
}

// TestRolesAndObjectPermissionsTogether gives both, and takes object permissions
// away from the next session when the policy changes.
func TestRolesAndObjectPermissionsTogether(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, "CREATE DATABASE duo")
	dba := env.Server.Superuser(t, "duo")
	exec(t, dba, "CREATE TABLE t1 (n int)", "CREATE TABLE t2 (n int)", `GRANT SELECT ON t1, t2 TO "teleport-admin" WITH GRANT OPTION`)
	env.DBRole(t, "both_reader")
	role := func(table string) string {
		return testenv.Role("both", "best_effort_drop", "both_reader") + "    db_permissions:\n    - {match: {name: " + table + "}, permissions: [select]}\n"
	}
	env.Apply(t, role("t1"))
	env.AddUser(t, "both", []string{"both"}, nil)
	p := env.As(t, "both")
	conn := p.Connect(t, testenv.Database, "duo")
	exec(t, conn, "SELECT * FROM t1")
	first := env.Account(t, "both")
	if !slices.Contains(first.Roles, "both_reader") || bundleOf(first) == "" || len(first.Roles) != 3 {
		t.Errorf("the account is %+v", first)
	}
	// Somebody drops the bundle: the next session has one again.
	exec(t, dba, `SET ROLE "teleport-admin"`, "REVOKE ALL ON t1 FROM "+quoted(bundleOf(first)), "DROP ROLE "+quoted(bundleOf(first)), "RESET ROLE")
	again := p.Connect(t, testenv.Database, "duo")
	exec(t, again, "SELECT * FROM t1")

	env.Apply(t, role("t2"))
	second := p.Connect(t, testenv.Database, "duo")
	exec(t, second, "SELECT * FROM t2")
	if !denied(t, second, "SELECT * FROM t1") {
		t.Error("t1 can still be read after the policy has changed")
	}
	for _, c := range []*pgx.Conn{conn, again, second} {
		testenv.Close(t, c)
	}
	awaitAccount(t, env, "both", testenv.Account{})
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
