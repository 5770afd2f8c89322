package provision

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
)

// deafConn swallows what is written once it is cut, as a firewall does.
type deafConn struct {
	net.Conn
	cut *atomic.Bool
}

func (c deafConn) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func newDeafPool(t *testing.T) (p *pool, opened *atomic.Int64, cut func()) {
	t.Helper()
	pg := pgtest.Shared(t, pgtest.Newest(t))
	cfg := pg.Config(t, "postgres", "postgres")
	opened = new(atomic.Int64)
	latest := new(atomic.Pointer[atomic.Bool])
	p = newPool(func(ctx context.Context, database string) (*pgconn.PgConn, error) {
		opened.Add(1)
		cfg := cfg.Copy()
		cfg.Database = database
		mine := new(atomic.Bool)
		latest.Store(mine)
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return deafConn{conn, mine}, err
		}
		return pgconn.ConnectConfig(ctx, &cfg.Config)
	}, 2)
	t.Cleanup(func() { _ = p.close(context.Background()) }) // some are cut off
	return p, opened, func() { latest.Load().Store(true) }
}

func take(t *testing.T, p *pool, database string) (*pgconn.PgConn, bool) {
	t.Helper()
	conn, warm, err := p.get(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	return conn, warm
}

func TestPoolAsksAConnectionThatWasNotUsed(t *testing.T) {
	t.Parallel()
	p, opened, cut := newDeafPool(t)
	p.askAfter = 0
	first, _ := take(t, p, "postgres")
	p.put(t.Context(), "postgres", first)
	again, warm := take(t, p, "postgres")
	if again != first || !warm {
		t.Error("a connection that answers was not used again")
	}
	p.put(t.Context(), "postgres", again)
	cut()
	begin := time.Now()
	other, warm := take(t, p, "postgres")
	if other == first || warm || opened.Load() != 2 {
		t.Errorf("a connection that was cut off was used again; %d opened", opened.Load())
	}
	if took := time.Since(begin); took > 2*askAtMost {
		t.Errorf("noticing took %v", took)
	}
	p.put(t.Context(), "postgres", other)
}

func TestPoolKeepsWhatIsWholeOnly(t *testing.T) {
	t.Parallel()
	p, opened, _ := newDeafPool(t)
	conn, _ := take(t, p, "postgres")
	if _, err := conn.Exec(t.Context(), "BEGIN").ReadAll(); err != nil {
		t.Fatal(err)
	}
	p.put(t.Context(), "postgres", conn)
	if !conn.IsClosed() {
		t.Error("a connection inside a transaction was kept")
	}
	// Two databases share the places; one that is not used makes room.
	for _, database := range []string{"postgres", "template1", "postgres", "template1"} {
		conn, _ := take(t, p, database)
		p.put(t.Context(), database, conn)
	}
	if opened.Load() != 3 {
		t.Errorf("%d connections opened, want 3", opened.Load())
	}
	p.closeIdle(t.Context(), time.Now())
	if _, warm := take(t, p, "postgres"); warm {
		t.Error("an idle connection was kept beyond its time")
	}
	// The other place.
	last, _ := take(t, p, "postgres")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := p.get(ctx, "postgres"); err == nil {
		t.Error("more connections than there are places")
	}
	if err := p.close(t.Context()); err != nil {
		t.Error(err)
	}
	p.put(t.Context(), "postgres", last)
	if !last.IsClosed() {
		t.Error("a connection was kept after close")
	}
}
