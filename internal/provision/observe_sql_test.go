package provision

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
)

// What is asked all the time does not go through all accounts, however few there were when
// PostgreSQL made the plan.
func TestQuestionsGoByIndex(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.Shared(t, version)
			conn, err := pgconn.ConnectConfig(t.Context(), &pg.Config(t, "postgres", "postgres").Config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if err := prepare(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			for _, call := range []string{observeStatement + "('alice', '[\"reader\"]')", aloneStatement + "('alice', '{}')"} {
				r := conn.ExecParams(t.Context(), "EXPLAIN EXECUTE "+call, nil, nil, nil, nil).Read()
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				for _, row := range r.Rows {
					if line := string(row[0]); strings.Contains(line, "Seq Scan") {
						t.Errorf("%s: %s", call, strings.TrimSpace(line))
					}
				}
			}
		})
	}
}
