package provision_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// adminSecret is the password of the admin in these tests.
const adminSecret = "the admin's own secret"

// passwords is a world whose server asks everybody for a password, as it comes
// from the distributions, and writes everything that it can into its log.
type passwords struct {
	*world

	mu      sync.Mutex
	secrets []string // every password that an account has had
}

// withPasswords runs a test on every version, each time on a server of its own.
func withPasswords(t *testing.T, test func(t *testing.T, w *passwords)) {
	t.Helper()
	for _, version := range pgtest.Versions(t) {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.Start(t, pgtest.Options{
				Version: version,
				HBA:     "host all all 127.0.0.1/32 scram-sha-256",
				Settings: map[string]string{
					"password_encryption": "scram-sha-256", // not the default before 14
					"log_statement":       "all", "log_connections": "on", "log_min_error_statement": "debug5", "log_min_messages": "debug1",
				},
			})
			w := &passwords{world: newWorld(t, pg, limitedAdmin)}
			w.exec(t, "SET log_statement = none")
			w.exec(t, "ALTER ROLE %s PASSWORD '"+strings.ReplaceAll(adminSecret, "'", "''")+"'", limitedAdmin)
			test(t, w)
		})
	}
}

// agent returns an agent that logs in as the admin with the password.
func (w *passwords) agent(t testing.TB, change ...func(*provision.Config)) *provision.Server {
	t.Helper()
	cfg := w.pg.Config(t, w.admin, "")
	cfg.Host, cfg.Password = w.pg.Host, adminSecret
	return w.world.agent(t, append([]func(*provision.Config){func(c *provision.Config) {
		c.Connect = func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			cfg := cfg.Copy()
			cfg.Database = database
			return pgconn.ConnectConfig(ctx, &cfg.Config)
		}
	}}, change...)...)
}

// knock tries to log in with this password.
func (w *passwords) knock(ctx context.Context, t testing.TB, user, password string) (*pgconn.PgConn, error) {
	t.Helper()
	cfg := w.pg.Config(t, user, w.db)
	cfg.Host, cfg.Password = w.pg.Host, password
	return pgconn.ConnectConfig(ctx, &cfg.Config)
}

// logIn does what an agent does.
func (w *passwords) logIn(ctx context.Context, t testing.TB, l *provision.Lease) (conn *pgconn.PgConn, err error) {
	t.Helper()
	for range 5 {
		secret, done, err := l.Password(ctx)
		if err != nil {
			return nil, fmt.Errorf("password: %w", err)
		}
		w.mu.Lock()
		w.secrets = append(w.secrets, secret)
		w.mu.Unlock()
		conn, refused := w.knock(ctx, t, l.User(), secret)
		if err := done(ctx); err != nil {
			return nil, fmt.Errorf("end of the password: %w", err)
		}
		if refused == nil {
			sure, err := l.Established(ctx, conn.PID())
			if sure {
				return conn, nil
			}
			if err := errors.Join(err, hangUp(conn)); err != nil {
				return nil, err
			}
			continue
		}
		if !notLetIn(refused) {
			return nil, refused
		}
		if err := l.Reactivate(ctx); err != nil {
			return nil, fmt.Errorf("reactivate: %w", err)
		}
	}
	return nil, errors.New("refused five times")
}

func notLetIn(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "28000" || pg.Code == "28P01")
}

// refused checks that this password opens nothing.
func (w *passwords) refused(t testing.TB, when, user, password string) {
	t.Helper()
	conn, err := w.knock(t.Context(), t, user, password)
	if err == nil {
		_ = conn.Close(t.Context())
	}
	if !notLetIn(err) {
		t.Errorf("%s: the login got %v, want it refused", when, err)
	}
}

// stored is what pg_authid holds of an account's password.
type stored struct {
	Verifier bool
	Until    string
}

func (w *passwords) stored(t testing.TB, user string) (s stored) {
	t.Helper()
	err := w.dba.QueryRow(t.Context(), `SELECT rolpassword IS NOT NULL, CASE
		WHEN rolvaliduntil IS NULL THEN 'never' WHEN NOT isfinite(rolvaliduntil) THEN rolvaliduntil::text
		WHEN rolvaliduntil <= now() THEN 'over' WHEN rolvaliduntil <= now() + '1 minute' THEN 'soon' ELSE 'later' END
		FROM pg_authid WHERE rolname = $1`, user).Scan(&s.Verifier, &s.Until)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *passwords) checkStored(t testing.TB, when, user string, want stored) {
	t.Helper()
	if diff := cmp.Diff(want, w.stored(t, user)); diff != "" {
		t.Errorf("%s: the password differs (-want +got):\n%s", when, diff)
	}
}

// closed is an account into which no password leads, not even one of its owner's.
var closed = stored{Until: "-infinity"}

// TestPasswordLifeCycle: an account has a password while its session logs in, and
// neither before nor after.
func TestPasswordLifeCycle(t *testing.T) {
	t.Parallel()
	withPasswords(t, func(t *testing.T, w *passwords) {
		s := w.agent(t)
		t.Run("kept", func(t *testing.T) { w.testKept(t, s) })
		t.Run("dropped", func(t *testing.T) { w.testDropped(t, s) })
		t.Run("own password", func(t *testing.T) { w.testOwnPassword(t, s) })
		t.Run("stolen verifier", func(t *testing.T) { w.testStolenVerifier(t, s) })
		t.Run("abandoned", func(t *testing.T) { w.testAbandoned(t, s) })
		t.Run("many", func(t *testing.T) { w.testManyAtOnce(t, s) })
		w.checkLog(t)
	})
}

func (w *passwords) testKept(t *testing.T, s *provision.Server) {
	alice := w.name("alice")
	l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
	w.checkStored(t, "active", alice, stored{Until: "never"})
	secret, done, err := l.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.secrets = append(w.secrets, secret)
	w.checkStored(t, "open", alice, stored{Verifier: true, Until: "soon"})
	conn, err := w.knock(t.Context(), t, alice, secret)
	if err != nil {
		t.Fatal(err)
	}
	establish(t, l, conn)
	if err := done(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.checkStored(t, "logged in", alice, closed)
	w.refused(t, "after the login", alice, secret)

	// Another session, another secret.
	second := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
	other, err := w.logIn(t.Context(), t, second)
	if err != nil {
		t.Fatal(err)
	}
	if again := w.secrets[len(w.secrets)-1]; again == secret {
		t.Error("two logins, one after the other, had the same password")
	}
	if err := w.holdsRoles(t.Context(), other, w.want(alice, provision.Keep, w.name("reader"))); err != nil {
		t.Error(err)
	}
	if err := errors.Join(hangUp(other), hangUp(conn)); err != nil {
		t.Fatal(err)
	}
	release(t, second, provision.StillActive)
	release(t, l, provision.Deactivated)
	w.check(t, "after", alice, disabled())
	w.checkStored(t, "after", alice, closed)
	w.refused(t, "after the release", alice, secret)
}

func (w *passwords) testDropped(t *testing.T, s *provision.Server) {
	bob := w.name("bob")
	l := activate(t, s, w.want(bob, provision.Drop, w.name("reader")))
	conn, err := w.logIn(t.Context(), t, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Dropped)
	w.check(t, "after", bob, gone())

	// Somebody drops the account between activation and login.
	l = activate(t, s, w.want(bob, provision.Drop, w.name("reader")))
	w.exec(t, "DROP ROLE %s", bob)
	if conn, err = w.logIn(t.Context(), t, l); err != nil {
		t.Fatal(err)
	}
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Dropped)
}

// testOwnPassword: a person gives the own account a password, to come back past
// the gateway. It opens nothing, neither while the session runs nor later.
func (w *passwords) testOwnPassword(t *testing.T, s *provision.Server) {
	eve := w.name("eve")
	l := activate(t, s, w.want(eve, provision.Keep, w.name("reader")))
	conn, err := w.logIn(t.Context(), t, l)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"ALTER ROLE CURRENT_USER PASSWORD 'mine'",
		"ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
	} {
		_, err := conn.Exec(t.Context(), sql).ReadAll()
		if allowed := !strings.Contains(sql, "VALID"); allowed != (err == nil) {
			t.Errorf("%s: got %v", sql, err)
		}
	}
	w.refused(t, "own password, session open", eve, "mine")
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Deactivated)
	w.refused(t, "own password, released", eve, "mine")
	w.checkStored(t, "released", eve, closed)
	l = activate(t, s, w.want(eve, provision.Keep, w.name("reader")))
	w.refused(t, "own password, active again", eve, "mine")
	release(t, l, provision.Deactivated)
}

// testAbandoned: an agent dies while a login is under way. Others log in all the
// same, and the sweep takes away what it left.
func (w *passwords) testAbandoned(t *testing.T, s *provision.Server) {
	carol := w.name("carol")
	dead := activate(t, w.agent(t), w.want(carol, provision.Keep, w.name("reader")))
	secret, _, err := dead.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.secrets = append(w.secrets, secret)
	l := activate(t, s, w.want(carol, provision.Keep, w.name("reader")))
	conn, err := w.logIn(t.Context(), t, l)
	if err != nil {
		t.Fatal(err)
	}
	w.checkStored(t, "logged in after all", carol, closed)
	w.refused(t, "the dead agent's password", carol, secret)
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Deactivated)

	dead = activate(t, w.agent(t), w.want(carol, provision.Keep, w.name("reader")))
	if secret, _, err = dead.Password(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.secrets = append(w.secrets, secret)
	if err := sweep(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.check(t, "swept", carol, disabled())
	w.checkStored(t, "swept", carol, closed)
}

// testManyAtOnce: sessions of few users through two agents that do not know each
// other, working in two logical databases, and a sweep. Nobody is turned away.
func (w *passwords) testManyAtOnce(t *testing.T, s *provision.Server) {
	other := w.pg.Database(t)
	agents := []*provision.Server{s, w.agent(t, func(c *provision.Config) { c.DefaultDatabase = other })}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all errgroup.Group
	for i := range 8 {
		all.Go(func() error {
			for n := range 6 {
				user := w.name(fmt.Sprint("user", (i/2+n)%2))
				if err := w.session(ctx, t, agents[i%2], w.want(user, provision.Mode(i/2+n)%2, w.name("reader"))); err != nil {
					return fmt.Errorf("session %d of worker %d: %w", n, i, err)
				}
			}
			return sweep(ctx, agents[i%2])
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if a := w.account(t, w.name(fmt.Sprint("user", i))); a.Login || len(a.Roles) > 0 {
			t.Errorf("left over: user%d %+v", i, a)
		}
	}
}

// session is a whole session, with a password.
func (w *passwords) session(ctx context.Context, t testing.TB, s *provision.Server, want provision.Want) (err error) {
	l, err := s.Activate(ctx, want)
	if err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	defer func() {
		_, released := l.Release(ctx)
		err = errors.Join(err, released)
	}()
	conn, err := w.logIn(ctx, t, l)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return errors.Join(w.holdsRoles(ctx, conn, want), hangUp(conn))
}

var verifiers = regexp.MustCompile(`SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):([^']+)`)

// testStolenVerifier: whoever reads the verifier, in the server's log or in its
// catalog, while it is still valid, cannot log in with it: not with the text, not
// with its parts, and not with them in the place of the key that they are made of.
func (w *passwords) testStolenVerifier(t *testing.T, s *provision.Server) {
	dave := w.name("dave")
	l := activate(t, s, w.want(dave, provision.Keep, w.name("reader")))
	secret, done, err := l.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.secrets = append(w.secrets, secret)
	var stolen string
	if err := w.dba.QueryRow(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = $1", dave).Scan(&stolen); err != nil {
		t.Fatal(err)
	}
	parts := verifiers.FindStringSubmatch(stolen)
	if parts == nil || !strings.Contains(w.pg.Log(), stolen) {
		t.Fatalf("the verifier %q is not one, or the log does not have it", stolen)
	}
	for _, password := range parts {
		w.refused(t, "with "+password, dave, password)
	}
	for _, key := range parts[2:] {
		if err := proveWith(t, w.pg.Addr(), dave, w.db, key); !notLetIn(err) {
			t.Errorf("with %s for the client's key: got %v, want the login refused", key, err)
		}
	}
	conn, err := w.knock(t.Context(), t, dave, secret)
	if err != nil {
		t.Fatalf("the password itself: %v: the attacks above tried nothing", err)
	}
	if err := errors.Join(done(t.Context()), hangUp(conn)); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Deactivated)
}

// checkLog looks for secrets in the server's log, which holds every statement.
func (w *passwords) checkLog(t *testing.T) {
	t.Helper()
	log := w.pg.Log()
	if !strings.Contains(log, "ALTER ROLE") || !verifiers.MatchString(log) || len(w.secrets) < 10 {
		t.Fatal("the log does not tell what happened")
	}
	for _, secret := range append(w.secrets, adminSecret) {
		if strings.Contains(log, secret) {
			t.Errorf("the server's log holds the password %q", secret)
		}
	}
}
