package provision_test

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/provision"
)

// overtaken is a connection on which something happens before a certain message is sent.
type overtaken struct {
	net.Conn
	message string
	happens func()
}

func (c *overtaken) Write(b []byte) (int, error) {
	if happens := c.happens; happens != nil && bytes.Contains(b, []byte(c.message)) {
		c.happens = nil
		happens()
	}
	return c.Conn.Write(b)
}

// overtakenAgent returns an agent to which something happens before it sends a
// message for the first time.
func (w *world) overtakenAgent(t testing.TB, message string, happens func()) *provision.Server {
	t.Helper()
	return w.agent(t, func(c *provision.Config) {
		c.MaxConns = 1
		c.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			cfg := w.adminConfig(t)
			cfg.Database = database
			cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return &overtaken{Conn: conn, message: message, happens: happens}, err
			}
			return pgconn.ConnectConfig(ctx, &cfg.Config)
		}
	})
}

// Between an agent's look at a released account and its change, another agent's
// session gets hold of the account: the change is not made.
func TestOvertakenBetweenLookAndChange(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		alice, theirs := w.name("alice"), w.agent(t)
		release(t, activate(t, theirs, w.want(alice, provision.Keep, w.name("reader"))), provision.Deactivated)
		var first *provision.Lease
		mine := w.overtakenAgent(t, "ALTER ROLE", func() {
			first = activate(t, theirs, w.want(alice, provision.Keep, w.name("reader")))
			establish(t, first, w.login(t, first).PgConn())
		})
		second := activate(t, mine, w.want(alice, provision.Keep, w.names("reader", "writer")...))
		w.check(t, "the first", alice, active(w.name("reader")))
		if second.User() == alice {
			t.Fatal("the second session shares the account")
		}
		w.check(t, "the second", second.User(), active(w.names("reader", "writer")...))
	})
}

// Between login being disabled by another agent's release and the roles being
// taken away, a session that was about to log in activates its account again: it
// gets its own account back, and no sibling.
func TestActivatedAgainAmidARelease(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		alice, reader := w.name("alice"), w.name("reader")
		mine := w.overtakenAgent(t, "ALTER ROLE", func() {
			w.exec(t, "REVOKE %s FROM %s", reader, alice)
		})
		first := activate(t, w.agent(t), w.want(alice, provision.Keep, reader))
		lease := activate(t, mine, w.want(alice, provision.Keep, reader))
		w.exec(t, "ALTER ROLE %s NOLOGIN", alice)
		if err := lease.Reactivate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lease.User() != alice {
			t.Errorf("the session is to log in as %q", lease.User())
		}
		w.check(t, "activated again", alice, active(reader))
		release(t, lease, provision.Deactivated)
		release(t, first, provision.Deactivated)
	})
}
