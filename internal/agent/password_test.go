package agent_test

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// adminPassword is that of the admin user on the servers of these tests.
const adminPassword = "of the admin's, 14.5%"

// passwordDatabase returns a registered database with this method, in YAML.
func passwordDatabase(name, uri, admin, more string) string {
	return fmt.Sprintf("kind: db\nversion: v3\nmetadata: {name: %s}\nspec:\n  protocol: postgres\n  auth: password\n  uri: %q\n  admin_user: %s\n%s", name, uri, admin, more)
}

// secretFile writes a password file and returns its path.
func secretFile(t testing.TB, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

// stockServer starts a server that asks for passwords, as it comes from the
// distributions, and a gateway that serves every registered database.
func stockServer(t *testing.T, o testenv.Options) *testenv.Env {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if o.OnlyHBA == "" {
		o.OnlyHBA = fmt.Sprintf("host all all 127.0.0.1/32 scram-sha-256\nlocal all %q peer\nlocal all all scram-sha-256", me.Username)
	}
	o.Service = "db_service: {resources: [{labels: {'*': '*'}}]}\n"
	o.Settings = map[string]string{"log_statement": "all", "password_encryption": "scram-sha-256"}
	env := testenv.Start(t, o)
	env.Server.Exec(t, "SET log_statement = none; ALTER ROLE \"teleport-admin\" PASSWORD '"+strings.ReplaceAll(adminPassword, "'", "''")+"'",
		fmt.Sprintf("CREATE ROLE %q LOGIN CREATEROLE", me.Username))
	return env
}

// TestPasswordSessions on a server as it comes from a distribution, with nothing
// changed but an admin user made: over TLS, without it on this machine, and through
// the Unix socket with an admin user that has no password.
func TestPasswordSessions(t *testing.T) {
	t.Parallel()
	env := stockServer(t, testenv.Options{})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	file := secretFile(t, adminPassword+"\n", 0o600)
	byFile := fmt.Sprintf("{name: teleport-admin, password_file: %q}", file)
	env.Apply(t,
		passwordDatabase("over-tls", env.Server.Addr(), byFile, "  tls: {mode: verify-full}"),
		passwordDatabase("loopback", env.Server.Addr(), byFile, ""),
		passwordDatabase("socket", "postgresql:///postgres?host="+env.Server.SocketDir()+"&port="+fmt.Sprint(env.Server.Port), byFile, ""),
		passwordDatabase("peer", fmt.Sprintf("%s:%d", env.Server.SocketDir(), env.Server.Port), fmt.Sprintf("{name: %q}", me.Username), ""),
	)
	env.DBRole(t, "reader")
	if env.Server.Version >= 16 {
		env.Server.Exec(t, fmt.Sprintf("GRANT reader TO %q WITH ADMIN OPTION", me.Username))
	}
	env.Apply(t, testenv.Role("readers", "keep", "reader"))
	for _, database := range []string{"over-tls", "loopback", "socket", "peer"} {
		awaitServed(t, env, database)
		t.Run(database, func(t *testing.T) {
			person := "user-" + database
			env.AddUser(t, person, []string{"readers"}, nil)
			conn := env.As(t, person).Connect(t, database, "postgres")
			var who, ssl string
			err := conn.QueryRow(t.Context(), `SELECT current_user, coalesce((SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()), '')`).Scan(&who, &ssl)
			if err != nil || who != person || (ssl == "true") != (database == "over-tls") {
				t.Errorf("got %s, ssl %s, %v", who, ssl, err)
			}
			testenv.Close(t, conn)
			testenv.Eventually(t, "the user is released", func() bool { a := env.Account(t, person); return !a.Login && len(a.Roles) == 1 })
		})
	}
	t.Run("many at once", func(t *testing.T) {
		env.AddUser(t, "crowd", []string{"readers"}, nil)
		cfg := env.As(t, "crowd").Proxy(t, identity.Route{Database: "over-tls", DatabaseName: "postgres"})
		var all errgroup.Group
		for range 12 {
			all.Go(func() error {
				conn, err := testenv.TryConnect(t, cfg)
				if err == nil {
					_, err = conn.Exec(t.Context(), "SELECT 1")
				}
				return err
			})
		}
		if err := all.Wait(); err != nil {
			t.Error(err)
		}
	})
	if log := env.Server.Log(); !strings.Contains(log, "SCRAM-SHA-256$4096:") || strings.Contains(log, adminPassword) {
		t.Error("the server's log does not show what was done, or shows the admin's password")
	}
	for _, shown := range []string{env.Log(), auditText(t, env)} {
		if !strings.Contains(shown, "crowd") || strings.Contains(shown, "SCRAM-SHA-256$") || strings.Contains(shown, adminPassword) {
			t.Error("our log or audit log does not show what was done, or shows a secret")
		}
	}
}

// TestAdminPasswordIsReadAnew: a new password counts from the next connection on.
func TestAdminPasswordIsReadAnew(t *testing.T) {
	t.Parallel()
	env := stockServer(t, testenv.Options{})
	file := secretFile(t, "outdated", 0o600)
	env.Apply(t, passwordDatabase("db", env.Server.Addr(), fmt.Sprintf("{name: teleport-admin, password_file: %q}", file), ""))
	awaitServed(t, env, "db")
	alice := env.Hire(t, "alice", "keep", "reader")
	refusal{"28P01", `password authentication failed for user "teleport-admin"`, "\\password"}.check(t, alice.Refused(t, "db", "postgres"))
	if err := os.WriteFile(file, []byte(adminPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Close(t, alice.Connect(t, "db", "postgres"))
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	env.Server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'teleport-admin'")
	refusal{"57P03", "can be read by others: its mode is 0644", "chmod 600"}.check(t, alice.Refused(t, "db", "postgres"))
}

// TestPasswordRefusals: set-ups that cannot be, or must not be, are refused with
// what repairs them, and no password is sent.
func TestPasswordRefusals(t *testing.T) {
	t.Parallel()
	env := stockServer(t, testenv.Options{OnlyHBA: `host  all "teleport-admin" 127.0.0.1/32 scram-sha-256
host clear all 127.0.0.1/32 password
host none  all 127.0.0.1/32 reject
host all   all 127.0.0.1/32 scram-sha-256`})
	env.Server.Exec(t, "CREATE DATABASE clear", "CREATE DATABASE none")
	byFile := fmt.Sprintf("{name: teleport-admin, default_database: postgres, password_file: %q}", secretFile(t, adminPassword, 0o600))
	without := pgtest.Start(t, pgtest.Options{HBA: "host all all all scram-sha-256", Settings: map[string]string{"ssl": "off"}})
	env.Apply(t,
		passwordDatabase("db", env.Server.Addr(), byFile, ""),
		passwordDatabase("no-tls", without.Addr(), byFile, "  tls: {mode: verify-full}"),
		passwordDatabase("no-secret", env.Server.Addr(), "{name: teleport-admin}", ""),
		passwordDatabase("no-env", env.Server.Addr(), "{name: teleport-admin, password_env: POSTERN_TEST_UNSET}", ""),
		passwordDatabase("command", env.Server.Addr(), "{name: teleport-admin, password_command: [echo, x]}", ""),
	)
	alice := env.Hire(t, "alice", "keep", "reader")
	for _, database := range []string{"db", "no-tls", "no-secret", "no-env"} {
		awaitServed(t, env, database)
	}
	for _, c := range []struct {
		database, dbname string
		want             refusal
	}{
		{"db", "clear", refusal{"57P03", "asks for a password in clear text", "scram-sha-256"}},
		{"db", "none", refusal{"28000", "pg_hba.conf rejects", "scram-sha-256"}},
		{"no-tls", "postgres", refusal{"57P03", "does not accept TLS", "ssl = on"}},
		{"no-secret", "postgres", refusal{"57P03", "none is configured", "password_file"}},
		{"no-env", "postgres", refusal{"57P03", "POSTERN_TEST_UNSET", ""}},
		{"command", "postgres", refusal{"3D000", "not found", ""}},
	} {
		t.Run(c.database+" "+c.dbname, func(t *testing.T) { c.want.check(t, alice.Refused(t, c.database, c.dbname)) })
	}
	if !strings.Contains(env.Log(), "password_command is for databases of the configuration file only") {
		t.Error("the log does not say why a database is not served")
	}
}

// auditText returns the whole audit log.
func auditText(t *testing.T, env *testenv.Env) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(env.AuditDir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestPasswordDoctor: what stands in the way of passwords, and exactly what
// repairs it.
func TestPasswordDoctor(t *testing.T) {
	t.Parallel()
	env := stockServer(t, testenv.Options{OnlyHBA: "host all all 127.0.0.1/32 scram-sha-256"})
	byFile := fmt.Sprintf("{name: teleport-admin, password_file: %q}", secretFile(t, adminPassword, 0o600))
	env.Apply(t, passwordDatabase("db", env.Server.Addr(), byFile, ""), passwordDatabase("clear", env.Server.Addr(), byFile, "  tls: {mode: disable}"))
	alice := env.Hire(t, "alice", "keep", "reader")
	for name, want := range map[string]int{"db": 0, "clear": 1} {
		awaitServed(t, env, name)
		if found := doctor(t, env, name); len(found) != want {
			t.Fatalf("of a healthy server: %+v", found)
		}
	}
	one(t, doctor(t, env, "clear"), "warning tls", "tls.mode", "verify-full")

	const admin = `host all "teleport-admin" 127.0.0.1/32 scram-sha-256`
	for _, c := range []struct{ lines, what, problem string }{
		{admin, "error user_login", "no pg_hba.conf entry"},
		{admin + "\nhost all all all reject", "error user_login", "rejects connection"},
		{admin + "\nhost all all all password", "error user_login", "clear text"},
		{admin + "\nhost all all all trust", "warning user_login", "without asking"},
		{"host all all all reject", "error login", "rejects connection"},
	} {
		writeHBA(t, env, c.lines)
		testenv.Eventually(t, "the doctor sees "+c.lines, func() bool { return len(doctor(t, env, "db")) > 0 })
		found := doctor(t, env, "db")
		one(t, found, c.what, c.problem, "pg_hba.conf")
		writeHBA(t, env, found[0].HBA...)
		testenv.Eventually(t, "the server is repaired", func() bool { return len(doctor(t, env, "db")) == 0 })
	}
	testenv.Close(t, alice.Connect(t, "db", "postgres"))

	// Passwords in the older form: the admin's does not work, the users' do.
	writeHBA(t, env, "host all all all md5")
	old := "SET log_statement = none; SET password_encryption = md5; ALTER ROLE \"teleport-admin\" PASSWORD '" + strings.ReplaceAll(adminPassword, "'", "''") + "'"
	env.Server.Exec(t, old, "ALTER SYSTEM SET password_encryption = md5", "SELECT pg_reload_conf()")
	testenv.Eventually(t, "the doctor sees md5", func() bool { return len(doctor(t, env, "db")) > 0 })
	found := doctor(t, env, "db")
	one(t, found, "error login", "stored for MD5", `\password "teleport-admin"`)
	env.Server.Exec(t, "ALTER SYSTEM RESET password_encryption", "SELECT pg_reload_conf()", strings.Replace(old, "= md5", "= 'scram-sha-256'", 1))
	testenv.Eventually(t, "the server is repaired", func() bool { return len(doctor(t, env, "db")) == 0 })
	env.Server.Exec(t, "ALTER SYSTEM SET password_encryption = md5", "SELECT pg_reload_conf()")
	testenv.Eventually(t, "the doctor sees the setting", func() bool { return len(doctor(t, env, "db")) == 2 })
	testenv.Close(t, alice.Connect(t, "db", "postgres"))
}
