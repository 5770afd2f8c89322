package provision_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/provision"
)

// mortal lets an agent die after a number of messages to PostgreSQL: from then on
// it is not heard any more, and hears nothing.
type mortal struct {
	left      atomic.Int64 // messages it may still send
	lastHeard bool         // the last message arrives, only its answer does not
}

var errDead = errors.New("this agent is dead")

func (m *mortal) dead() bool { return m.left.Load() < 0 }

type mortalConn struct {
	net.Conn
	m *mortal
}

func (c mortalConn) Write(b []byte) (int, error) {
	if c.m.left.Add(-1) < 0 {
		if c.m.lastHeard && c.m.left.Load() == -1 {
			_, _ = c.Conn.Write(b)
			c.awaitAnswer()
		}
		return 0, errors.Join(errDead, c.Close())
	}
	return c.Conn.Write(b)
}

// Close may be called again: pgconn closes what a failed write has closed.
func (c mortalConn) Close() error {
	if err := c.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// awaitAnswer waits until PostgreSQL has done what it was told: a dead agent's
// last wish must not run beside the test's next step.
func (c mortalConn) awaitAnswer() {
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = c.Read(make([]byte, 1<<16))
}

// mortalAgent returns an agent, and the life it has.
func (w *world) mortalAgent(t testing.TB, lastHeard bool, change ...func(*provision.Config)) (*provision.Server, *mortal) {
	t.Helper()
	m := &mortal{lastHeard: lastHeard}
	m.left.Store(1 << 40)
	return w.agent(t, append(change, func(c *provision.Config) {
		cfg := w.adminConfig(t)
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if m.dead() {
				return nil, errDead
			}
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return mortalConn{conn, m}, err
		}
		c.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			cfg := cfg.Copy()
			cfg.Database = database
			return pgconn.ConnectConfig(ctx, &cfg.Config)
		}
	})...), m
}

// An agent dies before or after each single message of activation, release and
// sweep. What it leaves is repaired by another agent's sweep, and does not
// keep the user from connecting again. The steps are counted, not listed, so that
// none can be forgotten.
func TestDeathAtEveryStep(t *testing.T) {
	t.Parallel()
	ownServer(t, limitedAdmin, func(t *testing.T, w *world) {
		survivor := w.agent(t)
		for _, mode := range []provision.Mode{provision.Keep, provision.Drop} {
			want := func(user string) provision.Want { return w.want(user, mode, w.names("reader", "writer")...) }
			deaths := map[string]func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error{
				"activate": func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error {
					m.left.Store(steps)
					_, err := s.Activate(t.Context(), want(user))
					return err
				},
				"release": func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error {
					l := activate(t, s, want(user))
					m.left.Store(steps)
					_, err := l.Release(t.Context())
					return err
				},
				"password": func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error {
					l := activate(t, s, want(user))
					m.left.Store(steps)
					_, done, err := l.Password(t.Context())
					if err == nil {
						err = done(t.Context())
					}
					return err
				},
				"sweep": func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error {
					activate(t, w.agent(t), want(user)) // which dies with its lease
					m.left.Store(steps)
					return sweep(t.Context(), s)
				},
			}
			deaths["take over"] = func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error {
				activate(t, w.agent(t), w.want(user, mode, w.name("writer"))) // which dies with its lease
				m.left.Store(steps)
				_, err := s.Activate(t.Context(), want(user))
				return err
			}
			for what, die := range deaths {
				for _, lastHeard := range []bool{false, true} {
					w.dieEverywhere(t, fmt.Sprintf("%s %v heard %v", what, mode, lastHeard), lastHeard, survivor, want, die)
				}
			}
		}
	})
}

func (w *world) dieEverywhere(t *testing.T, what string, lastHeard bool, survivor *provision.Server, want func(string) provision.Want,
	die func(*testing.T, *provision.Server, *mortal, int64, string) error,
) {
	t.Helper()
	for steps := int64(0); ; steps++ {
		user := w.name(fmt.Sprintf("%s %d", what, steps))
		s, m := w.mortalAgent(t, lastHeard)
		if err := s.Warm(t.Context(), w.db); err != nil {
			t.Fatal(err)
		}
		err := die(t, s, m, steps, user)
		if died := m.dead(); died != (err != nil) {
			t.Fatalf("%s: died %v after %d messages, error %v", what, died, steps, err)
		}
		if err := sweep(t.Context(), survivor); err != nil {
			t.Fatalf("%s, %d: sweep: %v", what, steps, err)
		}
		if a := w.account(t, user); a.Login || len(a.Roles) > 0 || w.password(t, user) {
			t.Errorf("%s, died after %d messages: left over after a sweep: %+v, or a password", what, steps, a)
		}
		l := activate(t, survivor, want(user))
		w.check(t, what+" again", user, active(want(user).Roles...))
		if _, err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			if steps < 2 {
				t.Errorf("%s has %d messages only: nothing was tested", what, steps)
			}
			return
		}
	}
}

// password reports whether the account has one.
func (w *world) password(t testing.TB, user string) (there bool) {
	t.Helper()
	err := w.dba.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_authid WHERE rolname = $1 AND rolpassword IS NOT NULL)", user).Scan(&there)
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// Whatever an account has come to hold, by whomever, activation leads to what is
// wanted, and a second one finds nothing to do.
func TestRandomDrift(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		if w.admin != superAdmin {
			return // what the other one may not repair is tested with its hints
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		s, alice := w.agent(t), w.name("alice")
		roles := w.names("r1", "r2", "r3")
		grantors := w.names("g1", "g2")
		for _, role := range append(roles, grantors...) {
			w.exec(t, "CREATE ROLE %s CREATEROLE", role)
		}
		for _, grantor := range grantors {
			for _, role := range roles {
				w.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", role, grantor)
			}
		}
		first := activate(t, s, w.want(alice, provision.Keep))
		for range 15 {
			for range rnd.IntN(6) {
				drift := []string{
					"GRANT %s TO %s", "GRANT %s TO %s WITH ADMIN OPTION", "REVOKE %s FROM %s",
				}[rnd.IntN(3)]
				if w.pg.Version >= 16 && rnd.IntN(2) == 0 {
					drift = "GRANT %s TO %s WITH INHERIT FALSE"
				}
				w.exec(t, "SET ROLE %s", grantors[rnd.IntN(2)])
				w.exec(t, drift, roles[rnd.IntN(3)], alice)
				w.exec(t, "RESET ROLE")
			}
			if rnd.IntN(2) == 0 {
				w.exec(t, "ALTER ROLE %s NOLOGIN NOINHERIT CREATEDB BYPASSRLS", alice)
			}
			wanted := roles[:rnd.IntN(4)]
			if ok, err := first.Converge(t.Context(), wanted, ""); !ok || err != nil {
				t.Fatalf("converge: %t, %v", ok, err)
			}
			w.check(t, "after drift", alice, active(wanted...))
			if r := activate(t, s, w.want(alice, provision.Keep, wanted...)).Result(); r.Changed {
				t.Errorf("a second activation wrote %q", r.Statements)
			}
		}
	})
}
