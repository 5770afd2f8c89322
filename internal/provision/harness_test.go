package provision_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

func TestMain(m *testing.M) { pgtest.Main(m, lookForSecrets) }

// The admins of the tests: one with the least rights that are enough, one with all.
const (
	limitedAdmin = "limited_admin"
	superAdmin   = "super_admin"
)

// world is a PostgreSQL server, a database and an admin, with a DBA's connection
// that looks on.
type world struct {
	pg    *pgtest.Server
	db    string // also the beginning of the role names of the test
	admin string
	stock bool // the server asks everybody for a password
	dba   *pgx.Conn
}

// newWorld prepares a test on the server. The admin may hand out the roles
// reader and writer of the world.
func newWorld(t testing.TB, pg *pgtest.Server, admin string) *world {
	t.Helper()
	w := &world{pg: pg, db: pg.Database(t), admin: admin}
	w.dba = pg.Superuser(t, w.db)
	w.ensureAdmins(t)
	w.exec(t, "CREATE ROLE %s NOLOGIN", w.name("reader"))
	w.exec(t, "CREATE ROLE %s NOLOGIN", w.name("writer"))
	w.exec(t, "GRANT %s, %s TO %s WITH ADMIN OPTION", w.name("reader"), w.name("writer"), limitedAdmin)
	return w
}

// newStockWorld is newWorld on a server with the options of pgtest.Stock, whose
// admin has the least rights and a password.
func newStockWorld(t testing.TB, pg *pgtest.Server) *world {
	t.Helper()
	w := newWorld(t, pg, limitedAdmin)
	w.stock = true
	admins.Lock()
	defer admins.Unlock()
	w.exec(t, "SET log_statement = none")
	w.exec(t, "ALTER ROLE %s PASSWORD '"+strings.ReplaceAll(adminSecret, "'", "''")+"'", limitedAdmin)
	w.exec(t, "RESET log_statement")
	return w
}

// ensureAdmins makes the admins and the group, whichever test comes first.
func (w *world) ensureAdmins(t testing.TB) {
	t.Helper()
	admins.Lock() // an advisory lock of PostgreSQL would hold in this database only
	defer admins.Unlock()
	for _, role := range []string{limitedAdmin + " LOGIN CREATEROLE", superAdmin + " LOGIN SUPERUSER", `"` + provision.Group + `" NOLOGIN`, `"` + provision.BundleGroup + `" NOLOGIN`} {
		_, err := w.dba.Exec(t.Context(), "CREATE ROLE "+role)
		if code := pgCode(err); err != nil && code != "42710" && code != "23505" {
			t.Fatal(err)
		}
	}
	// As installations do it. It also makes the admin a member of the group.
	_, err := w.dba.Exec(t.Context(), `GRANT "`+provision.Group+`", "`+provision.BundleGroup+`" TO `+limitedAdmin+" WITH ADMIN OPTION")
	if err != nil {
		t.Fatal(err)
	}
}

// admins is held while the admins of a server are made.
var admins sync.Mutex

func pgCode(err error) string {
	if pg, ok := err.(*pgconn.PgError); ok { //nolint:errorlint // pgx returns it unwrapped
		return pg.Code
	}
	return ""
}

// name returns a role name that no other test uses.
func (w *world) name(s string) string { return w.db + "_" + s }

func (w *world) names(s ...string) []string {
	out := make([]string, len(s))
	for i := range s {
		out[i] = w.name(s[i])
	}
	return out
}

// exec runs a statement as DBA; the arguments are quoted as identifiers.
func (w *world) exec(t testing.TB, format string, names ...string) {
	t.Helper()
	quoted := make([]any, len(names))
	for i, n := range names {
		quoted[i] = pgx.Identifier{n}.Sanitize()
	}
	sql := fmt.Sprintf(format, quoted...)
	if _, err := w.dba.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// config returns what an agent would use.
func (w *world) config(t testing.TB) provision.Config {
	t.Helper()
	cfg := w.adminConfig(t)
	return provision.Config{
		AdminName: w.admin,
		Connect: func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			cfg := cfg.Copy()
			cfg.Database = database
			return pgconn.ConnectConfig(ctx, &cfg.Config)
		},
	}
}

// adminConfig returns how the admin connects, to no database yet.
func (w *world) adminConfig(t testing.TB) *pgx.ConnConfig {
	t.Helper()
	cfg := w.pg.Config(t, w.admin, "")
	cfg.Host = w.pg.Host
	if w.stock {
		cfg.Password = adminSecret
	}
	return cfg
}

// adminConn connects as the admin.
func (w *world) adminConn(t testing.TB) *pgx.Conn {
	t.Helper()
	return w.pg.ConnectPassword(t, w.admin, w.adminConfig(t).Password, w.db)
}

// agent returns a Server that works in the world's database.
func (w *world) agent(t testing.TB, change ...func(*provision.Config)) *provision.Server {
	t.Helper()
	cfg := w.config(t)
	cfg.DefaultDatabase = w.db
	for _, c := range change {
		c(&cfg)
	}
	s, err := provision.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// account is what the DBA sees of a role.
type account struct {
	Exists bool
	Login  bool
	Roles  []string // direct memberships, without the group
	Group  bool
}

func (w *world) account(t testing.TB, user string) account {
	t.Helper()
	var a account
	err := w.dba.QueryRow(t.Context(), `
SELECT count(DISTINCT r.oid) > 0, coalesce(bool_or(r.rolcanlogin), false),
  coalesce(array_agg(DISTINCT g.rolname::text) FILTER (WHERE g.rolname <> $2), '{}'), coalesce(bool_or(g.rolname = $2), false)
FROM pg_roles r LEFT JOIN pg_auth_members m ON m.member = r.oid LEFT JOIN pg_roles g ON g.oid = m.roleid
WHERE r.rolname = $1`, user, provision.Group).Scan(&a.Exists, &a.Login, &a.Roles, &a.Group)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(a.Roles)
	return a
}

func active(roles ...string) account {
	return account{Exists: true, Login: true, Group: true, Roles: append([]string{}, roles...)}
}

func disabled() account { return account{Exists: true, Group: true, Roles: []string{}} }

func gone() account { return account{Roles: []string{}} }

func (w *world) check(t testing.TB, when, user string, want account) {
	t.Helper()
	if diff := cmp.Diff(want, w.account(t, user)); diff != "" {
		t.Errorf("%s: account %q differs (-want +got):\n%s", when, user, diff)
	}
}

func (w *world) want(user string, mode provision.Mode, roles ...string) provision.Want {
	return provision.Want{User: user, Roles: roles, Mode: mode, DatabaseName: w.db}
}

func activate(t testing.TB, s *provision.Server, want provision.Want) *provision.Lease {
	t.Helper()
	l, err := s.Activate(t.Context(), want)
	if err != nil {
		t.Fatalf("activate %s: %v", want.User, err)
	}
	return l
}

func release(t testing.TB, l *provision.Lease, want provision.Released) provision.Outcome {
	t.Helper()
	out, err := l.Release(t.Context())
	if err != nil {
		t.Fatalf("release: %v", err)
	}
	if out.Result != want {
		t.Errorf("release: %v, want %v (%+v)", out.Result, want, out)
	}
	return out
}

// establish tells the lease of its session, which must be sure of the account.
func establish(t testing.TB, l *provision.Lease, conn *pgconn.PgConn) {
	t.Helper()
	if sure, err := l.Established(t.Context(), conn.PID()); !sure || err != nil {
		t.Errorf("established as %s: %t, %v", l.User(), sure, err)
	}
}

// login connects as the database user of the lease.
func (w *world) login(t testing.TB, l *provision.Lease) *pgx.Conn {
	t.Helper()
	if !w.stock {
		return w.pg.Connect(t, l.User(), w.db)
	}
	secret, done, err := l.Password(t.Context())
	if err != nil {
		t.Fatalf("password of %s: %v", l.User(), err)
	}
	secrets.add(secret)
	conn, err := pgx.ConnectConfig(t.Context(), withKey(w.userConfig(t, l.User(), w.db), secret))
	if err := errors.Join(err, done(t.Context())); err != nil {
		t.Fatalf("log in as %s: %v", l.User(), err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the test may have broken it on purpose
	})
	return conn
}

// tryLeased does what an agent does to log in once: it asks for a password where
// the server does. It returns PostgreSQL's refusal.
func (w *world) tryLeased(ctx context.Context, t testing.TB, l *provision.Lease, database string) (*pgconn.PgConn, error) {
	t.Helper()
	if !w.stock {
		return w.tryLogin(ctx, t, l.User(), database)
	}
	secret, done, err := l.Password(ctx)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	secrets.add(secret)
	conn, refused := w.tryKey(ctx, t, l.User(), secret, database)
	if err := done(ctx); err != nil {
		return nil, errors.Join(refused, fmt.Errorf("end of the password: %w", err))
	}
	return conn, refused
}

// logout ends a session and waits until its backend is gone, as an agent does by
// reading until PostgreSQL closes the connection.
func (w *world) logout(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	pid := conn.PgConn().PID()
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "the backend is gone", func() bool {
		var there bool
		if err := w.dba.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid).Scan(&there); err != nil {
			t.Fatal(err)
		}
		return !there
	})
}

// tryLogin connects as the database user and returns PostgreSQL's refusal.
func (w *world) tryLogin(ctx context.Context, t testing.TB, user, database string) (*pgconn.PgConn, error) {
	t.Helper()
	return pgconn.ConnectConfig(ctx, &w.userConfig(t, user, database).Config)
}

// tryKey is tryLogin with the key of a password.
func (w *world) tryKey(ctx context.Context, t testing.TB, user string, salted []byte, database string) (*pgconn.PgConn, error) {
	t.Helper()
	return pgconn.ConnectConfig(ctx, &withKey(w.userConfig(t, user, database), salted).Config)
}

// userConfig returns how a database user connects over TCP.
func (w *world) userConfig(t testing.TB, user, database string) *pgx.ConnConfig {
	t.Helper()
	cfg := w.pg.Config(t, user, database)
	cfg.Host = w.pg.Host
	return cfg
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// everywhere runs a test on shared servers of every version: with an admin of the
// least rights where nobody has a password, with the same where everybody needs one,
// and with a superuser.
func everywhere(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, version := range pgtest.Versions(t) {
		asLimited(t, version, test)
		t.Run(fmt.Sprintf("%d/super", version), func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, pgtest.Shared(t, version), superAdmin))
		})
	}
}

// asLimited is everywhere on one version, without a superuser.
func asLimited(t *testing.T, version int, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run(fmt.Sprintf("%d/limited", version), func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, pgtest.Shared(t, version), limitedAdmin))
	})
	t.Run(fmt.Sprintf("%d/password", version), func(t *testing.T) {
		t.Parallel()
		test(t, newStockWorld(t, pgtest.SharedStock(t, version)))
	})
}

// q quotes an identifier.
func q(name string) string { return pgx.Identifier{name}.Sanitize() }

// execCleanup runs a statement as DBA when the test's own context has ended.
func (w *world) execCleanup(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.ConnectConfig(context.Background(), w.pg.Config(t, "postgres", "postgres"))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}

func trimCreateDB(sql string) string { return strings.Replace(sql, " CREATEDB", "", 1) }

func name(version int) string { return fmt.Sprint(version) }
