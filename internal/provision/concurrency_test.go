package provision_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// session does what an agent does for one session: activate, log in (again when
// another agent was in the way), look at the roles held, log out, release.
func (w *world) session(ctx context.Context, t testing.TB, s *provision.Server, want provision.Want) (err error) {
	l, err := s.Activate(ctx, want)
	if err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	defer func() {
		_, released := l.Release(ctx)
		err = errors.Join(err, released)
	}()
	conn, err := w.logInWith(ctx, t, l)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	for range 1 + rand.IntN(3) {
		err = errors.Join(err, w.holdsRoles(ctx, conn, want))
	}
	return errors.Join(err, hangUp(conn))
}

// logInWith logs in with the account of a lease, as an agent does.
func (w *world) logInWith(ctx context.Context, t testing.TB, l *provision.Lease) (*pgconn.PgConn, error) {
	for attempt := 1; ; attempt++ {
		conn, err := w.tryLeased(ctx, t, l, w.db)
		if err == nil {
			sure, err := l.Established(ctx, conn.PID())
			if sure {
				return conn, nil
			}
			if err := errors.Join(err, hangUp(conn)); err != nil {
				return nil, err
			}
			continue
		}
		if !refusedLogin(err) || attempt == 10 {
			return nil, err
		}
		if err := l.Reactivate(ctx); err != nil {
			return nil, fmt.Errorf("reactivate: %w", err)
		}
	}
}

// hangUp ends a session as an agent does: it waits until PostgreSQL closes the
// connection, and with it the backend's entry in pg_stat_activity.
func hangUp(conn *pgconn.PgConn) error {
	raw, err := conn.Hijack()
	if err != nil {
		return err
	}
	raw.Frontend.Send(&pgproto3.Terminate{})
	err = raw.Frontend.Flush()
	_, eof := io.Copy(io.Discard, raw.Conn)
	return errors.Join(err, eof, raw.Conn.Close())
}

func refusedLogin(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "28000" || pg.Code == "28P01")
}

// holdsRoles asks the session itself which roles it holds.
func (w *world) holdsRoles(ctx context.Context, conn *pgconn.PgConn, want provision.Want) error {
	for _, role := range want.Roles {
		r := conn.ExecParams(ctx, "SELECT pg_has_role($1, 'USAGE')", [][]byte{[]byte(role)}, nil, nil, nil).Read()
		if r.Err != nil {
			return r.Err
		}
		if string(r.Rows[0][0]) != "t" {
			return fmt.Errorf("a running session of %s does not hold %s", want.User, role)
		}
	}
	return nil
}

func TestManySessionsAtOnce(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		s := w.agent(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var all errgroup.Group
		// 50 of one user, and three of each of ten users.
		for range 50 {
			all.Go(func() error {
				return w.session(ctx, t, s, w.want(w.name("alice"), provision.Keep, w.names("reader", "writer")...))
			})
		}
		for i := range 30 {
			user := w.name(fmt.Sprint("user", i%10))
			all.Go(func() error { return w.session(ctx, t, s, w.want(user, provision.Mode(i%2), w.name("reader"))) })
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		w.check(t, "after", w.name("alice"), disabled())
		for i := range 10 {
			want := disabled()
			if i%2 == 1 {
				want = gone()
			}
			w.check(t, "after", w.name(fmt.Sprint("user", i)), want)
		}
	})
}

// Two agents that know nothing of each other, working in two logical databases,
// with a sweep running all the time: every session gets in and keeps its roles,
// and nothing is left.
func TestTwoAgentsShareAServer(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pgtest.Start(t, pgtest.Options{Version: version}), limitedAdmin)
			other := w.pg.Database(t)
			agents := []*provision.Server{
				w.agent(t),
				w.agent(t, func(c *provision.Config) { c.DefaultDatabase = other }),
				w.agent(t, func(c *provision.Config) { c.DefaultDatabase = "" }),
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			end := time.Now().Add(3 * time.Second)
			var sessions errgroup.Group
			for i := range 9 {
				sessions.Go(func() error {
					for time.Now().Before(end) {
						user := w.name(fmt.Sprint("user", rand.IntN(3)))
						if err := w.session(ctx, t, agents[i%3], w.want(user, provision.Mode(len(user)+i)%2, w.name("reader"))); err != nil {
							return err
						}
					}
					return nil
				})
			}
			var sweeps sync.WaitGroup
			sweeps.Go(func() {
				for time.Now().Before(end) {
					if err := sweep(ctx, agents[0]); err != nil {
						t.Errorf("sweep: %v", err)
						return
					}
				}
			})
			err := sessions.Wait()
			sweeps.Wait()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				user := w.name(fmt.Sprint("user", i))
				if a := w.account(t, user); a.Login || len(a.Roles) > 0 {
					t.Errorf("left over: %s %+v", user, a)
				}
			}
		})
	}
}

// sweep sweeps once and returns the first error, of whatever account.
func sweep(ctx context.Context, s *provision.Server) error {
	outcomes, err := s.Sweep(ctx)
	for _, out := range outcomes {
		err = errors.Join(err, out.Err)
	}
	return err
}

// A login that had passed PostgreSQL's check when another agent disabled the
// account is waited for, and seen. The login is held up behind the check by a
// lock on its database.
func TestReleaseSeesALoginUnderWay(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions(t) {
		asLimited(t, version, func(t *testing.T, w *world) {
			alice, target := w.name("alice"), w.pg.Database(t)
			mine, theirs := w.agent(t), w.agent(t)
			lease := activate(t, mine, w.want(alice, provision.Keep, w.name("reader")))
			foreign := activate(t, theirs, w.want(alice, provision.Keep, w.name("reader")))

			tx, err := w.dba.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "ALTER DATABASE "+q(target)+" RENAME TO "+q(target+"_renamed")); err != nil {
				t.Fatal(err)
			}
			var login errgroup.Group
			var conn *pgconn.PgConn
			login.Go(func() (err error) {
				conn, err = w.tryLeased(t.Context(), t, lease, target)
				return err
			})
			awaitLockOnDatabase(t, tx)
			var out provision.Outcome
			var releasing errgroup.Group
			releasing.Go(func() (err error) {
				out, err = foreign.Release(t.Context())
				return err
			})
			look := w.pg.Superuser(t, w.db)
			eventually(t, "login is disabled", func() bool { return !loginAllowed(t, look, alice) })
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(login.Wait(), releasing.Wait()); err != nil {
				t.Fatal(err)
			}
			if out.Result != provision.StillActive {
				t.Errorf("release: %v, want still active", out.Result)
			}
			w.check(t, "the session is there", alice, active(w.name("reader")))
			establish(t, lease, conn)
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
			release(t, lease, provision.Deactivated)
			w.check(t, "after", alice, disabled())
		})
	}
}

// awaitLockOnDatabase waits until a login is held up by the transaction's lock on its database.
func awaitLockOnDatabase(t testing.TB, tx pgx.Tx) {
	t.Helper()
	eventually(t, "the login waits for the lock", func() bool {
		var n int
		err := tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'object' AND classid = 'pg_database'::regclass").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
}

func loginAllowed(t testing.TB, conn *pgx.Conn, user string) (login bool) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", user).Scan(&login); err != nil {
		t.Fatal(err)
	}
	return login
}

// The other order: the account is disabled between activation and login.
func TestReactivateAfterAnotherAgentsRelease(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		for _, mode := range []provision.Mode{provision.Keep, provision.Drop} {
			user := w.name(mode.String())
			theirs := activate(t, w.agent(t), w.want(user, mode, w.name("reader")))
			mine := activate(t, w.agent(t), w.want(user, mode, w.name("reader")))
			if _, err := theirs.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := w.tryLogin(t.Context(), t, user, w.db); !refusedLogin(err) {
				t.Fatalf("login: %v, want refused", err)
			}
			if err := mine.Reactivate(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.check(t, "reactivated", user, active(w.name("reader")))
			w.logout(t, w.login(t, mine))
			if _, err := mine.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			if a := w.account(t, user); a.Login || len(a.Roles) > 0 {
				t.Errorf("left over: %+v", a)
			}
			if err := mine.Reactivate(t.Context()); err == nil {
				t.Error("a released lease was activated again")
			}
		}
	})
}
