package bench

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The peers.
const (
	direct    = "direct"
	pgBouncer = "PgBouncer"
	silent    = "Postern"              // statements are not recorded
	recording = "Postern, audit: full" // every one is
)

// loginUser is the database user of every peer.
const loginUser = "bench"

// peer is a way to the same server.
type peer struct {
	name string
	env  []string // of libpq
	pid  int      // of the process in between; 0 is none
}

// setting returns a size from the environment.
func setting(b *testing.B, name string, standard int) int {
	b.Helper()
	text := os.Getenv("BENCH_" + name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		b.Fatalf("BENCH_%s is %q, want a number", name, text)
	}
	return n
}

// startPeers starts a server, a gateway and PgBouncer.
func startPeers(b *testing.B) (*testenv.Env, []*peer) {
	b.Helper()
	env := testenv.Start(b, testenv.Options{Process: true, Settings: map[string]string{"shared_buffers": "256MB", "max_wal_size": "4GB"}})
	authority, err := pgtest.NewAuthority("benchmark")
	if err != nil {
		b.Fatal(err)
	}
	env.Server.Exec(b, "CREATE ROLE "+loginUser+" LOGIN", "GRANT ALL ON SCHEMA public TO "+loginUser)
	env.Around(b, authority, loginUser)
	dir := clientFiles(b, authority)
	writeFile(b, filepath.Join(dir, "root.crt"), env.ServerAuthority())
	around := &peer{name: direct, env: []string{
		"PGHOST=" + env.Server.Host, "PGPORT=" + strconv.Itoa(env.Server.Port), "PGSSLMODE=verify-full",
		"PGSSLROOTCERT=" + filepath.Join(dir, "root.crt"), "PGSSLCERT=" + filepath.Join(dir, "client.crt"), "PGSSLKEY=" + filepath.Join(dir, "client.key"),
	}}
	return env, []*peer{
		around, startPgBouncer(b, env.Server.Addr(), dir),
		gatewayPeer(b, env, silent, "none"), gatewayPeer(b, env, recording, "full"),
	}
}

// gatewayPeer makes a person whose statements are recorded or not.
func gatewayPeer(b *testing.B, env *testenv.Env, name, record string) *peer {
	b.Helper()
	person := "person-" + record
	env.Apply(b, fmt.Sprintf(`{kind: role, version: v7, metadata: {name: %s}, spec: {
		options: {create_db_user_mode: "off", record_session: {db: %s}},
		allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: [%s]}}}`, person, record, loginUser))
	env.AddUser(b, person, []string{person}, nil)
	cert, err := env.As(b, person).Hub(b).DatabaseCertificate(b.Context(), identity.Route{Database: testenv.Database, DatabaseUser: loginUser, DatabaseName: "postgres"})
	if err != nil {
		b.Fatal(err)
	}
	host, port, err := net.SplitHostPort(env.Address)
	if err != nil {
		b.Fatal(err)
	}
	return &peer{name: name, pid: env.PID(), env: []string{
		"PGHOST=" + host, "PGPORT=" + port, "PGSSLMODE=require", "PGSSLROOTCERT=/dev/null/none", "PGSSLCERT=" + cert.File, "PGSSLKEY=" + cert.File,
	}}
}

// clientFiles writes a client certificate for the database user, and PgBouncer's own.
func clientFiles(b *testing.B, authority *pgtest.Authority) (dir string) {
	b.Helper()
	dir = b.TempDir()
	for name, hosts := range map[string][]string{"client": nil, "bouncer": {"localhost", "127.0.0.1"}} {
		issued, err := authority.Issue(loginUser, hosts...)
		if err != nil {
			b.Fatal(err)
		}
		cert, key, err := pgtest.PEM(issued)
		if err != nil {
			b.Fatal(err)
		}
		writeFile(b, filepath.Join(dir, name+".crt"), cert)
		writeFile(b, filepath.Join(dir, name+".key"), key)
	}
	writeFile(b, filepath.Join(dir, "authority.crt"), authority.PEM())
	return dir
}

func writeFile(b *testing.B, path string, content []byte) {
	b.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
}

// startPgBouncer starts it in session mode before the server at addr, with TLS
// and client certificates on both sides. dir holds those.
func startPgBouncer(b *testing.B, addr, dir string) *peer {
	b.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		b.Fatal("PgBouncer is not installed; tools/bench.sh installs it")
	}
	port := freePort(b)
	serverHost, serverPort, err := net.SplitHostPort(addr)
	if err != nil {
		b.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	writeFile(b, file("users.txt"), []byte(`"`+loginUser+`" ""`+"\n"))
	writeFile(b, file("pgbouncer.ini"), []byte(strings.Join([]string{
		"[databases]", fmt.Sprintf("* = host=%s port=%s", serverHost, serverPort),
		"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + port, "unix_socket_dir =", "pool_mode = session",
		"auth_type = cert", "auth_file = " + file("users.txt"), "max_client_conn = 20000", "default_pool_size = 20000",
		"ignore_startup_parameters = extra_float_digits", "logfile = " + file("pgbouncer.log"), "log_connections = 0", "log_disconnections = 0",
		"client_tls_sslmode = verify-full", "client_tls_ca_file = " + file("authority.crt"),
		"client_tls_cert_file = " + file("bouncer.crt"), "client_tls_key_file = " + file("bouncer.key"),
		"server_tls_sslmode = verify-ca", "server_tls_ca_file = " + file("root.crt"),
		"server_tls_cert_file = " + file("client.crt"), "server_tls_key_file = " + file("client.key"), "",
	}, "\n")))
	cmd := exec.Command(binary, "-q", file("pgbouncer.ini")) //nolint:noctx // ends with the benchmark, below
	if os.Getuid() == 0 {                                    // as which it refuses to run
		openTo(b, dir, "nobody")
		cmd = exec.Command("setpriv", "--reuid", "nobody", "--clear-groups", binary, "-q", file("pgbouncer.ini")) //nolint:noctx // as above
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testenv.Within(b, 10*time.Second, "PgBouncer listens", func() bool {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second) //nolint:noctx // bounded
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return &peer{name: pgBouncer, pid: cmd.Process.Pid, env: []string{
		"PGHOST=127.0.0.1", "PGPORT=" + port, "PGSSLMODE=verify-full", "PGSSLROOTCERT=" + file("authority.crt"),
		"PGSSLCERT=" + file("client.crt"), "PGSSLKEY=" + file("client.key"),
	}}
}

// openTo gives a directory and what is in it to another user. The root user reads
// it all the same.
func openTo(b *testing.B, dir, user string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), "chown", "-R", user, dir).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for up := filepath.Dir(dir); len(up) > len(os.TempDir()); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o711); err != nil {
			b.Fatal(err)
		}
	}
}

// port returns where the peer listens.
func (p *peer) port(b *testing.B) uint16 {
	b.Helper()
	for _, setting := range p.env {
		if text, ok := strings.CutPrefix(setting, "PGPORT="); ok {
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				b.Fatal(err)
			}
			return uint16(n)
		}
	}
	b.Fatal("a peer without a port")
	return 0
}

func freePort(b *testing.B) string {
	b.Helper()
	ln, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return port
}

// run runs a program of libpq against the peer and returns what it wrote.
func (p *peer) run(b *testing.B, stdin *os.File, name string, args ...string) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Env = append(append(os.Environ(), "PGUSER="+loginUser, "PGDATABASE=postgres", "PGGSSENCMODE=disable"), p.env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s through %s: %v\n%s%s", name, p.name, err, out.String(), problems.String())
	}
	return out.String()
}
