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
		mine := w.overtakenAgent(t, "COMMENT ON ROLE", func() {
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
		mine := w.overtakenAgent(t, "COMMENT ON ROLE", func() {
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

// An agent notices that an account has lost its roles for a moment, also when they are
// back and there is nothing left to do.
func TestUntouched(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		want, theirs := w.want(w.name("alice"), provision.Keep, w.name("reader")), w.agent(t)
		lease := activate(t, w.agent(t), want)
		check := func(when string, untouched bool) {
			t.Helper()
			if err := lease.Reactivate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := lease.Untouched(); got != untouched {
				t.Errorf("%s: untouched is %t", when, got)
			}
			w.check(t, when, lease.User(), active(w.name("reader")))
		}
		check("the first look at what was activated", false)
		check("nothing has happened", true)
		check("nothing has happened again", true)
		release(t, activate(t, theirs, want), provision.Deactivated)
		check("released", false)
		check("made anew by ourselves", false)
		check("nothing has happened since", true)
		release(t, activate(t, theirs, want), provision.Deactivated)
		again := activate(t, theirs, want)
		check("released and made anew by others", false)
		check("nothing has happened after that", true)
		release(t, again, provision.Deactivated)
	})
}

// Between a release's look at an account and its change, another agent's session
// gets hold of it: login stays allowed all the time, and what the session noted stays noted.
func TestOvertakenRelease(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		alice, theirs := w.name("alice"), w.agent(t)
		var note string
		mine := w.overtakenAgent(t, "COMMENT ON ROLE", func() {
			want := w.want(alice, provision.Keep, w.name("reader"))
			want.Chosen = true
			lease := activate(t, theirs, want)
			establish(t, lease, w.login(t, lease).PgConn())
			note = w.comment(t, alice)
		})
		lease := activate(t, mine, w.want(alice, provision.Keep, w.name("reader")))
		if out := release(t, lease, provision.StillActive); len(out.Statements) > 0 {
			t.Errorf("the release wrote %q", out.Statements)
		}
		w.check(t, "the session runs", alice, active(w.name("reader")))
		if now := w.comment(t, alice); note == "" || now != note {
			t.Errorf("comment: %q, want what the session noted, %q", now, note)
		}
	})
}

// Between a release's look at an account and its change, the account stops being
// managed: it is not touched.
func TestNoLongerManagedAtTheRelease(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		alice := w.name("alice")
		mine := w.overtakenAgent(t, "COMMENT ON ROLE", func() {
			w.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", provision.Group, alice)
		})
		lease := activate(t, mine, w.want(alice, provision.Keep, w.name("reader")))
		if out := release(t, lease, provision.StillActive); len(out.Statements) > 0 {
			t.Errorf("the release wrote %q", out.Statements)
		}
		w.check(t, "afterwards", alice, active(w.name("reader")))
	})
}

// comment returns the comment on a role.
func (w *world) comment(t testing.TB, role string) string {
	t.Helper()
	return w.text(t, "SELECT coalesce(shobj_description(to_regrole('"+q(role)+"'), 'pg_authid'), '')")
}
