package testenv

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/lib/pq" // the driver "postgres"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/identity"
)

// clientsUser is the person whose programs connect.
const clientsUser = "clara"

// way is how programs reach the database: straight to the public port with a
// certificate, or through the local proxy without TLS.
type way struct {
	name   string
	dbname string
	env    []string // PGHOST and so on
	jdbc   string   // URL
	more   string   // of connection strings: what is not in env for all
}

// TestClients: programs of several languages work as with PostgreSQL itself: they
// connect, prepare statements, copy in and out, roll back and cancel.
func TestClients(t *testing.T) {
	t.Parallel()
	env := Start(t, Options{})
	env.DBRole(t, "creator")
	env.Apply(t, Role(clientsUser, "keep", "creator"))
	env.AddUser(t, clientsUser, []string{clientsUser}, nil)
	clara := env.As(t, clientsUser)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []way{clara.directWay(t), clara.proxyWay(t)} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			script := func(file string, command ...string) func(*testing.T) {
				return func(t *testing.T) {
					command = append(command, filepath.Join(root, "testdata", "clients", file))
					if file == "Jdbc.java" {
						command = append(command, w.jdbc, clientsUser)
					}
					if out := w.run(t, command[0], command[1:]...); out != "ok\n" {
						t.Errorf("it says %s", out)
					}
				}
			}
			for name, test := range map[string]func(*testing.T){
				"psycopg2":            script("psycopg.py", "/usr/bin/python3"),
				"node-postgres":       script("node-postgres.js", "node"),
				"JDBC":                script("Jdbc.java", "java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar"),
				"psql":                func(t *testing.T) { w.psql(t, env) },
				"pgbench":             w.pgbench,
				"pg_dump, pg_restore": w.dump,
				"pgx":                 func(t *testing.T) { w.pgx(t, env) },
				"lib/pq":              func(t *testing.T) { w.pq(t, env) },
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t)
				})
			}
		})
	}
}

// directWay logs in to the database, which writes the files that a program needs
// which connects by itself.
func (p *Person) directWay(t *testing.T) way {
	t.Helper()
	cert, err := p.Hub(t).LogInToDatabase(t.Context(), identity.Route{Database: Database})
	if err != nil {
		t.Fatal(err)
	}
	ca := p.Home.HostCAFile(p.profile)
	w := p.newWay(t, "direct", p.env.Address)
	w.env = append(w.env, "PGSSLMODE=verify-full", "PGSSLROOTCERT="+ca, "PGSSLCERT="+cert.CertFile(), "PGSSLKEY="+cert.KeyFile())
	w.more = fmt.Sprintf("sslmode=verify-full sslrootcert=%s sslcert=%s sslkey=%s", ca, cert.CertFile(), cert.KeyFile())
	w.jdbc += fmt.Sprintf("&sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s", ca, cert.CertFile(), cert.KeyDERFile())
	return w
}

// proxyWay starts a local proxy, as `postern proxy db` does.
func (p *Person) proxyWay(t *testing.T) way {
	t.Helper()
	ln, err := client.ListenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	proxy := p.Hub(t).Proxy(identity.Route{Database: Database}, slog.New(slog.DiscardHandler))
	serving.Go(func() {
		if err := proxy.Serve(ctx, ln); err != nil {
			t.Errorf("local proxy: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		serving.Wait()
	})
	w := p.newWay(t, "proxy", ln.Addr().String())
	w.env = append(w.env, "PGSSLMODE=disable")
	w.more = "sslmode=disable"
	w.jdbc += "&sslmode=disable"
	return w
}

// newWay makes a database for a way, in which the person may create tables.
func (p *Person) newWay(t *testing.T, name, address string) way {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	w := way{name: name, dbname: p.env.Server.Database(t)}
	admin := p.env.Server.Superuser(t, w.dbname)
	for _, sql := range []string{"GRANT CREATE ON SCHEMA public TO creator", "GRANT CREATE ON DATABASE " + w.dbname + " TO creator"} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range os.Environ() { // nothing of the person who runs the tests
		if !strings.HasPrefix(v, "PG") {
			w.env = append(w.env, v)
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PGHOST="+host, "PGPORT="+port, "PGUSER="+p.Name, "PGDATABASE="+w.dbname, "HOME="+t.TempDir(),
		"NODE_PATH="+filepath.Join(root, ".clients", "node_modules"))
	w.jdbc = fmt.Sprintf("jdbc:postgresql://%s/%s?user=%s", address, w.dbname, p.Name)
	return w
}

// command is a program in the environment of the way.
func (w way) command(t *testing.T, name string, arg ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, arg...)
	cmd.Env = w.env
	return cmd
}

// run runs a program, which must succeed, and returns what it printed.
func (w way) run(t *testing.T, name string, arg ...string) string {
	t.Helper()
	cmd := w.command(t, name, arg...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v (run `make deps`?)\n%s%s", name, err, out.String(), talk.String())
	}
	return out.String()
}

// connection returns a connection string.
func (w way) connection() string {
	var words []string
	for _, v := range w.env {
		for from, to := range map[string]string{"PGHOST=": "host=", "PGPORT=": "port=", "PGUSER=": "user=", "PGDATABASE=": "dbname="} {
			if value, found := strings.CutPrefix(v, from); found {
				words = append(words, to+value)
			}
		}
	}
	return strings.Join(words, " ") + " " + w.more
}

// awaitSleep waits until the program of that application_name sleeps in PostgreSQL.
func awaitSleep(t *testing.T, env *Env, application string) {
	t.Helper()
	conn := env.Server.Superuser(t, "postgres")
	Eventually(t, application+" sleeps", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'active' AND query LIKE '%pg_sleep%'", application).Scan(&n)
		return err == nil && n == 1
	})
}

// psqlScript is what a person types. The last statement is cancelled.
const psqlScript = `CREATE TEMPORARY TABLE numbers (n int);
PREPARE double AS SELECT $1::int * 2;
EXECUTE double (21);
\copy numbers FROM PROGRAM 'seq 1000'
BEGIN;
DELETE FROM numbers;
ROLLBACK;
SELECT sum(n) FROM numbers;
\copy (SELECT n FROM numbers WHERE n > 998 ORDER BY n) TO STDOUT
SELECT current_user;
SELECT pg_sleep(600);
`

func (w way) psql(t *testing.T, env *Env) {
	application := "psql " + w.name
	cmd := w.command(t, "psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", "application_name='"+application+"'", "-f", "-")
	cmd.Stdin = strings.NewReader(psqlScript)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitSleep(t, env, application)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if want := "42\n500500\n999\n1000\n" + clientsUser + "\n"; err == nil || out.String() != want || !strings.Contains(talk.String(), "canceling statement due to user request") {
		t.Errorf("%v, %q and %q, want %q and a cancelled statement", err, out.String(), talk.String(), want)
	}
}

// pgbench makes its tables with COPY and works on them in transactions, in each of
// the ways in which it can send a query.
func (w way) pgbench(t *testing.T) {
	w.run(t, "pgbench", "--initialize", "--scale=1", "--quiet", "--init-steps=dtgvp")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		out := w.run(t, "pgbench", "--no-vacuum", "--protocol="+mode, "--client=4", "--jobs=2", "--transactions=25")
		if !strings.Contains(out, "number of transactions actually processed: 100/100") {
			t.Errorf("%s: %s", mode, out)
		}
	}
}

// dump takes a schema out of the database, in parallel connections that share a
// snapshot, and puts it back: in parallel too, then in one transaction in place of
// what is there.
func (w way) dump(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), w.connection())
	if err != nil {
		t.Fatal(err)
	}
	defer Close(t, conn)
	exec := func(sql string) {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		var sum int64
		// pg_dump reads functions with prepared statements.
		err := conn.QueryRow(t.Context(), "SELECT dumps.double(sum(n)) FROM dumps.numbers", pgx.QueryExecModeExec).Scan(&sum)
		if want := int64(10_000 * 10_001); err != nil || sum != want {
			t.Errorf("%s: %d, %v, want %d", when, sum, err, want)
		}
	}
	exec(`CREATE SCHEMA dumps;
		CREATE TABLE dumps.numbers AS SELECT n, repeat('x', 100) AS t FROM generate_series(1, 10000) AS n;
		CREATE FUNCTION dumps.double(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 2 * $1'`)
	check("before")
	dir := filepath.Join(t.TempDir(), "dump")
	w.run(t, "pg_dump", "--format=directory", "--jobs=2", "--schema=dumps", "--no-sync", "--file="+dir)
	exec("DROP SCHEMA dumps CASCADE")
	w.run(t, "pg_restore", "--dbname="+w.dbname, "--jobs=2", "--exit-on-error", "--no-owner", dir)
	check("restored")
	w.run(t, "pg_restore", "--dbname="+w.dbname, "--clean", "--single-transaction", "--no-owner", dir)
	check("restored in place")
}

func (w way) pgx(t *testing.T, env *Env) {
	application := "pgx " + w.name
	conn, err := pgx.Connect(t.Context(), w.connection()+" application_name='"+application+"'")
	if err != nil {
		t.Fatal(err)
	}
	defer Close(t, conn)
	for n := range 10 { // prepared, and kept
		var doubled int
		if err := conn.QueryRow(t.Context(), "SELECT $1::int * 2", n).Scan(&doubled); err != nil || doubled != 2*n {
			t.Fatalf("%d, %v", doubled, err)
		}
	}
	if _, err := conn.Exec(t.Context(), "CREATE TEMPORARY TABLE numbers (n int)"); err != nil {
		t.Fatal(err)
	}
	copied, err := conn.CopyFrom(t.Context(), pgx.Identifier{"numbers"}, []string{"n"}, pgx.CopyFromSlice(10_000, func(i int) ([]any, error) { return []any{i}, nil }))
	if err != nil || copied != 10_000 {
		t.Errorf("copied %d, %v", copied, err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "DELETE FROM numbers"); err != nil {
		t.Error(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if _, err := conn.PgConn().CopyTo(t.Context(), &out, "COPY numbers TO STDOUT"); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 10_000 {
		t.Errorf("copied out %d bytes, %v", out.Len(), err)
	}
	slept := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT pg_sleep(600)")
		slept <- err
	}()
	awaitSleep(t, env, application)
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Error(err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](<-slept); !ok || pg.Code != "57014" {
		t.Errorf("the statement ended with %v", pg)
	}
}

func (w way) pq(t *testing.T, env *Env) {
	application := "pq " + w.name
	db, err := sql.Open("postgres", w.connection()+" application_name='"+application+"'")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	double, err := db.PrepareContext(t.Context(), "SELECT $1::int * 2")
	if err != nil {
		t.Fatal(err)
	}
	defer double.Close()
	for n := range 10 {
		var doubled int
		if err := double.QueryRowContext(t.Context(), n).Scan(&doubled); err != nil || doubled != 2*n {
			t.Fatalf("%d, %v", doubled, err)
		}
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TEMPORARY TABLE numbers (n int)"); err != nil {
		t.Fatal(err)
	}
	copyNumbers(t, db, true)
	copyNumbers(t, db, false)
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM numbers").Scan(&n); err != nil || n != 1000 {
		t.Errorf("%d rows, %v, want those of the transaction that was committed", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	slept := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(ctx, "SELECT pg_sleep(600)")
		slept <- err
	}()
	awaitSleep(t, env, application)
	cancel()
	if err := <-slept; err == nil {
		t.Error("the statement was not cancelled")
	}
	if err := db.QueryRowContext(t.Context(), "SELECT 1").Scan(&n); err != nil {
		t.Errorf("after the cancel: %v", err)
	}
}

// copyNumbers copies a thousand rows in, in a transaction of its own.
func copyNumbers(t *testing.T, db *sql.DB, commit bool) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.PrepareContext(t.Context(), "COPY numbers (n) FROM STDIN")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for n := range 1000 {
		if _, err := rows.ExecContext(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rows.ExecContext(t.Context()); err != nil {
		t.Error(err)
	}
	end := tx.Rollback
	if commit {
		end = tx.Commit
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
