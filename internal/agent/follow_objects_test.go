package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// objectRole returns a role that gives these permissions on tables.
func objectRole(name, permissions string) string {
	role := testenv.Role(name, "keep", name+"_one", name+"_two")
	if permissions == "" {
		return role
	}
	return strings.TrimSuffix(role, "\n") + "\n    db_permissions: [{match: {object_kind: table, schema: public}, permissions: [" + permissions + "]}]\n"
}

// TestObjectPermissionsReachRunningSessions, also those on a sibling: more takes
// effect in place, and so does less where nobody can hold on to it. Where a session may have
// used SET ROLE with its bundle, it is ended.
func TestObjectPermissionsReachRunningSessions(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			env := testenv.Start(t, testenv.Options{Version: version})
			exec(t, env.Server.Superuser(t, "postgres"), "CREATE TABLE things (n int)", `GRANT ALL ON things TO "teleport-admin" WITH GRANT OPTION`)
			env.DBRole(t, "carol_one", "carol_two")
			env.Apply(t, objectRole("carol", ""))
			env.AddUser(t, "carol", []string{"carol"}, nil)
			carol := env.As(t, "carol")
			own := carol.Connect(t, testenv.Database, "postgres")
			beside := testenv.Connect(t, carol.Proxy(t, identity.Route{Database: testenv.Database, DatabaseRole: []string{"carol_one"}}))
			for _, permissions := range []string{"SELECT", "SELECT, INSERT"} {
				env.Apply(t, objectRole("carol", permissions))
				testenv.Within(t, time.Second, "the sessions may "+permissions, func() bool {
					may := "SELECT has_table_privilege('things', '" + permissions[strings.LastIndex(permissions, " ")+1:] + "')::text"
					return text(t, own, may) == "true" && text(t, beside, may) == "true"
				})
			}
			if version >= 16 {
				env.Apply(t, objectRole("carol", "SELECT"))
				testenv.Within(t, time.Second, "the sessions may not INSERT any more", func() bool {
					return denied(t, own, "INSERT INTO things VALUES (1)") && denied(t, beside, "INSERT INTO things VALUES (1)")
				})
				exec(t, own, "SELECT * FROM things")
				env.Apply(t, objectRole("carol", ""))
				testenv.Within(t, time.Second, "the sessions may not SELECT any more", func() bool {
					return denied(t, own, "SELECT * FROM things") && denied(t, beside, "SELECT * FROM things")
				})
				return
			}
			exec(t, own, "SET ROLE "+quoted(bundleOf(env.Account(t, "carol")))) // to keep what it gives
			env.Apply(t, objectRole("carol", "SELECT"))
			testenv.Within(t, time.Second, "the session is ended", func() bool {
				_, err := own.Exec(t.Context(), "INSERT INTO things VALUES (1)")
				pg, ok := errors.AsType[*pgconn.PgError](err)
				return ok && pg.Code == "57P01" && strings.Contains(pg.Message, "object permissions")
			})
		})
	}
}
