package pgtest_test

import (
	"fmt"
	"testing"

	"github.com/postern-db/postern/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEveryVersionRuns(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			s := pgtest.Shared(t, version)
			database := s.Database(t)
			s.Exec(t, fmt.Sprintf("CREATE ROLE login_%s LOGIN", database))

			conn := s.ConnectTLS(t, "login_"+database, database)
			var user string
			var num int
			if err := conn.QueryRow(t.Context(), "SELECT current_user, current_setting('server_version_num')::int").Scan(&user, &num); err != nil {
				t.Fatal(err)
			}
			if num/10000 != version || user != "login_"+database {
				t.Errorf("got version %d as %s, want %d as login_%s", num, user, version, database)
			}
		})
	}
}

func TestServerSurvivesKillAndRestart(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{})
	s.Exec(t, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
	s.Kill(t)
	s.Restart(t)
	var n int
	if err := s.Superuser(t, "postgres").QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n); err != nil || n != 7 {
		t.Fatalf("after a crash: got %d, %v, want 7", n, err)
	}
}
