package provision_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// fickle is a connection whose peer hangs up.
type fickle struct {
	net.Conn
	gone atomic.Bool
}

func (f *fickle) Read(b []byte) (int, error) {
	if f.gone.Load() {
		return 0, io.EOF
	}
	return f.Conn.Read(b)
}

// An admin connection that somebody ends while it is being opened is opened
// again: nobody notices.
func TestNewConnectionIsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Shared(t, pgtest.Newest(t)), superAdmin)
	opened := 0
	s := w.agent(t, func(c *provision.Config) {
		c.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			cfg := w.adminConfig(t)
			cfg.Database = database
			var conn *fickle
			cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				conn = &fickle{Conn: raw}
				return conn, err
			}
			admin, err := pgconn.ConnectConfig(ctx, &cfg.Config)
			if opened++; opened <= 3 && err == nil {
				conn.gone.Store(true)
			}
			return admin, err
		}
	})
	release(t, activate(t, s, w.want(w.name("alice"), provision.Keep, w.name("reader"))), provision.Deactivated)
	if opened != 4 {
		t.Errorf("opened %d connections, want 4", opened)
	}
}
