package agent_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/testenv"
)

// TestWhateverWorksWithPostgreSQL works through the gateway.
func TestWhateverWorksWithPostgreSQL(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	person := env.Hire(t, "worker", "keep", "worker_reader")
	conn := person.Connect(t, "example", "postgres")
	exec(t, conn, "CREATE TEMPORARY TABLE numbers (n int, t text)")

	t.Run("copy", func(t *testing.T) {
		const rows = 100_000
		copied, err := conn.CopyFrom(t.Context(), pgx.Identifier{"numbers"}, []string{"n", "t"},
			pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i, fmt.Sprint("row ", i)}, nil }))
		if err != nil || copied != rows {
			t.Fatalf("copied in %d, %v", copied, err)
		}
		var out bytes.Buffer
		if _, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY numbers TO STDOUT"); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != rows {
			t.Errorf("copied out %d bytes, %v", out.Len(), err)
		}
	})
	t.Run("large value both ways", func(t *testing.T) {
		large := strings.Repeat("x", 5<<20)
		if got := text(t, conn, "SELECT $1::text || 'y'", large); got != large+"y" {
			t.Errorf("got %d bytes", len(got))
		}
	})
	t.Run("pipeline", func(t *testing.T) {
		batch := &pgx.Batch{}
		for i := range 500 {
			batch.Queue("SELECT $1::int", i)
		}
		results := conn.SendBatch(t.Context(), batch)
		for i := range 500 {
			var n int
			if err := results.QueryRow().Scan(&n); err != nil || n != i {
				t.Fatalf("got %d, %v, want %d", n, err, i)
			}
		}
		if err := results.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("notifications", func(t *testing.T) {
		exec(t, conn, "LISTEN news")
		exec(t, person.Connect(t, "example", "postgres"), "NOTIFY news, 'hello'")
		n, err := conn.WaitForNotification(t.Context())
		if err != nil || n.Payload != "hello" {
			t.Errorf("got %v, %v", n, err)
		}
	})
	t.Run("large object", func(t *testing.T) {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		objects := tx.LargeObjects()
		oid, err := objects.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		object, err := objects.Open(t.Context(), oid, pgx.LargeObjectModeWrite)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := object.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	t.Run("error, and on", func(t *testing.T) {
		if _, err := conn.Exec(t.Context(), "SELECT 1/0"); err == nil || !strings.Contains(err.Error(), "22012") {
			t.Errorf("got %v", err)
		}
		exec(t, conn, "SELECT 1")
	})
}
