package provision

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
)

// TestAdminOf: whoever asks about whatever role, the answer is that of PostgreSQL, also
// where ADMIN OPTION comes through other roles, in any number and with any options.
func TestAdminOf(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.Start(t, pgtest.Options{Version: version}) // pg_has_role knows who owns the database
			dba := pg.Superuser(t, "postgres")
			for seed := range uint64(8) {
				tangle(t, dba, version, seed)
			}
		})
	}
}

// tangle makes roles that hold each other as a seed says, and asks all of them about all.
func tangle(t *testing.T, dba *pgx.Conn, version int, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	exec := func(sql string) error {
		_, err := dba.Exec(t.Context(), sql)
		return err
	}
	must := func(sql string) {
		t.Helper()
		if err := exec(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	const roles = 12
	name := func(i int) string { return fmt.Sprintf("tangle_%d_%d", seed, i) }
	for i := range roles {
		must("CREATE ROLE " + name(i))
	}
	must("ALTER ROLE " + name(roles-1) + " SUPERUSER")
	must("ALTER DATABASE postgres OWNER TO " + name(random.IntN(roles)))
	word := func() string { return []string{"TRUE", "FALSE"}[random.IntN(2)] }
	for range 2 * roles {
		granted, member := random.IntN(roles), random.IntN(roles)
		sql := "GRANT " + name(granted) + " TO " + name(member)
		switch {
		case version >= 16:
			sql += " WITH ADMIN " + word() + ", INHERIT " + word() + ", SET " + word()
			if random.IntN(3) == 0 {
				sql += " GRANTED BY " + name(random.IntN(roles))
			}
		case random.IntN(2) == 0:
			sql += " WITH ADMIN OPTION"
		}
		// PostgreSQL refuses circles, and who grants what is not theirs: then there is one less.
		err := exec(sql)
		if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && !refused {
			t.Fatal(err)
		}
	}
	through := 0
	for i := range roles {
		must("SET ROLE " + name(i))
		rows, err := dba.Query(t.Context(), contextCTE+`
SELECT r.rolname, `+adminOf("r.oid")+`, pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'),
  EXISTS (SELECT FROM pg_auth_members o WHERE o.roleid = r.oid AND o.member = (SELECT oid FROM self) AND o.admin_option)
FROM pg_roles r`)
		if err != nil {
			t.Fatal(err)
		}
		var role string
		var got, want, directly bool
		_, err = pgx.ForEachRow(rows, []any{&role, &got, &want, &directly}, func() error {
			if got != want {
				t.Errorf("seed %d: %s is admin of %s: %t, PostgreSQL says %t", seed, name(i), role, got, want)
			}
			if want && !directly && i != roles-1 && role != name(i) {
				through++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		must("RESET ROLE")
	}
	if through == 0 {
		t.Errorf("seed %d: nobody has ADMIN OPTION through another role", seed)
	}
}
