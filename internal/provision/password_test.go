package provision_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// withPasswords runs a test on every version, each time on a server of its own.
func withPasswords(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, version := range pgtest.Versions(t) {
		t.Run(name(version), func(t *testing.T) {
			t.Parallel()
			w := newStockWorld(t, pgtest.Start(t, pgtest.Stock(version)))
			test(t, w)
			if err := secrets.inLog(w.pg.Log()); err != nil {
				t.Error(err)
			}
		})
	}
}

// refused checks that this password opens nothing.
func (w *world) refused(t testing.TB, when, user, password string) {
	t.Helper()
	cfg := w.userConfig(t, user, w.db)
	cfg.Password = password
	conn, err := pgconn.ConnectConfig(t.Context(), &cfg.Config)
	checkRefused(t, when, conn, err)
}

// refusedKey checks that the key of a password opens nothing.
func (w *world) refusedKey(t testing.TB, when, user string, salted []byte) {
	t.Helper()
	conn, err := w.tryKey(t.Context(), t, user, salted, w.db)
	checkRefused(t, when, conn, err)
	// Nor is its text a password.
	for _, text := range []string{string(salted), base64.StdEncoding.EncodeToString(salted), hex.EncodeToString(salted)} {
		if !strings.Contains(text, "\x00") {
			w.refused(t, when+", as text", user, text)
		}
	}
}

func checkRefused(t testing.TB, when string, conn *pgconn.PgConn, err error) {
	t.Helper()
	if err == nil {
		_ = conn.Close(t.Context())
	}
	if !refusedLogin(err) {
		t.Errorf("%s: the login got %v, want it refused", when, err)
	}
}

// stored is what pg_authid holds of an account's password.
type stored struct {
	Verifier bool
	Until    string
}

func (w *world) stored(t testing.TB, user string) (s stored) {
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

func (w *world) checkStored(t testing.TB, when, user string, want stored) {
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
	withPasswords(t, func(t *testing.T, w *world) {
		s := w.agent(t)
		t.Run("kept", func(t *testing.T) { w.testKept(t, s) })
		t.Run("dropped", func(t *testing.T) { w.testDropped(t, s) })
		t.Run("own password", func(t *testing.T) { w.testOwnPassword(t, s) })
		t.Run("stolen verifier", func(t *testing.T) { w.testStolenVerifier(t, s) })
		t.Run("abandoned", func(t *testing.T) { w.testAbandoned(t, s) })
		t.Run("sweep", func(t *testing.T) { sweepAfterACrash(t, w) })
		t.Run("many", func(t *testing.T) { w.testManyAtOnce(t, s) })
	})
}

func (w *world) testKept(t *testing.T, s *provision.Server) {
	alice := w.name("alice")
	l := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
	w.checkStored(t, "active", alice, stored{Until: "never"})
	secret, done, err := l.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets.add(secret)
	w.checkStored(t, "open", alice, stored{Verifier: true, Until: "soon"})
	conn, err := w.tryKey(t.Context(), t, alice, secret, w.db)
	if err != nil {
		t.Fatal(err)
	}
	establish(t, l, conn)
	if err := done(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.checkStored(t, "logged in", alice, closed)
	w.refusedKey(t, "after the login", alice, secret)

	// Another session, another secret.
	second := activate(t, s, w.want(alice, provision.Keep, w.name("reader")))
	again, done, err := second.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets.add(again)
	if bytes.Equal(again, secret) {
		t.Error("two logins, one after the other, had the same password")
	}
	other, err := w.tryKey(t.Context(), t, alice, again, w.db)
	if err != nil {
		t.Fatal(err)
	}
	establish(t, second, other)
	if err := done(t.Context()); err != nil {
		t.Fatal(err)
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
	w.refusedKey(t, "after the release", alice, secret)
}

func (w *world) testDropped(t *testing.T, s *provision.Server) {
	bob := w.name("bob")
	l := activate(t, s, w.want(bob, provision.Drop, w.name("reader")))
	conn, err := w.logInWith(t.Context(), t, l)
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
	if conn, err = w.logInWith(t.Context(), t, l); err != nil {
		t.Fatal(err)
	}
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Dropped)
}

// testOwnPassword: a person gives the own account a password, to come back past
// the gateway. It opens nothing, neither while the session runs nor later.
func (w *world) testOwnPassword(t *testing.T, s *provision.Server) {
	eve := w.name("eve")
	l := activate(t, s, w.want(eve, provision.Keep, w.name("reader")))
	conn, err := w.logInWith(t.Context(), t, l)
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
func (w *world) testAbandoned(t *testing.T, s *provision.Server) {
	carol := w.name("carol")
	dead := activate(t, w.agent(t), w.want(carol, provision.Keep, w.name("reader")))
	secret, _, err := dead.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets.add(secret)
	l := activate(t, s, w.want(carol, provision.Keep, w.name("reader")))
	conn, err := w.logInWith(t.Context(), t, l)
	if err != nil {
		t.Fatal(err)
	}
	w.checkStored(t, "logged in after all", carol, closed)
	w.refusedKey(t, "the dead agent's password", carol, secret)
	if err := hangUp(conn); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Deactivated)

	dead = activate(t, w.agent(t), w.want(carol, provision.Keep, w.name("reader")))
	if secret, _, err = dead.Password(t.Context()); err != nil {
		t.Fatal(err)
	}
	secrets.add(secret)
	if err := sweep(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.check(t, "swept", carol, disabled())
	w.checkStored(t, "swept", carol, closed)
}

// testManyAtOnce: sessions of few users through two agents that do not know each
// other, working in two logical databases, and a sweep. Nobody is turned away.
func (w *world) testManyAtOnce(t *testing.T, s *provision.Server) {
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

// testStolenVerifier: whoever reads the verifier, in the server's log or in its
// catalog, while it is still valid, cannot log in with it: not with the text, not
// with its parts, and not with them in the place of the key that they are made of.
func (w *world) testStolenVerifier(t *testing.T, s *provision.Server) {
	dave := w.name("dave")
	l := activate(t, s, w.want(dave, provision.Keep, w.name("reader")))
	secret, done, err := l.Password(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets.add(secret)
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
		if err := proveWith(t, w.pg.Addr(), dave, w.db, key); !refusedLogin(err) {
			t.Errorf("with %s for the client's key: got %v, want the login refused", key, err)
		}
	}
	conn, err := w.tryKey(t.Context(), t, dave, secret, w.db)
	if err != nil {
		t.Fatalf("the password itself: %v: the attacks above tried nothing", err)
	}
	if err := errors.Join(done(t.Context()), hangUp(conn)); err != nil {
		t.Fatal(err)
	}
	release(t, l, provision.Deactivated)
}
