package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// replicationLines are what physical replication needs beside the seed's lines.
const replicationLines = "hostssl replication all 0.0.0.0/0 cert"

// replicationRole returns a role that allows replication, with more lines in its
// options and in its allow section.
func replicationRole(name, options, allow string) string {
	return fmt.Sprintf(`kind: role
version: v7
metadata: {name: %s}
spec:
  options: {allow_replication: true, %s}
  allow: {db_labels: {"*": "*"}, %s}
`, name, options, allow)
}

// TestReplicationTools: PostgreSQL's own, with an account that an administrator
// has made.
func TestReplicationTools(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{HBA: replicationLines, Settings: map[string]string{"wal_level": "logical"}})
	env.Server.Exec(t, "CREATE ROLE standby LOGIN REPLICATION", "CREATE TABLE orders (n int)")
	env.Apply(t, replicationRole("backup", "", `db_names: ["*"], db_users: [standby]`))
	env.AddUser(t, "backup", []string{"backup"}, nil)
	cfg := env.As(t, "backup").Proxy(t, identity.Route{Database: "example", DatabaseUser: "standby"})
	connect := fmt.Sprintf("--dbname=host=%s port=%d user=standby dbname=postgres sslmode=disable", cfg.Host, cfg.Port)

	tool := func(name string, args ...string) string {
		t.Helper()
		cmd := osexec.CommandContext(t.Context(), name, append([]string{connect}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	position := func() string {
		t.Helper()
		return text(t, env.Server.Superuser(t, "postgres"), "SELECT pg_current_wal_flush_lsn()::text")
	}
	dir := t.TempDir()
	tool("pg_basebackup", "--pgdata="+filepath.Join(dir, "base"), "--checkpoint=fast", "--wal-method=stream", "--no-sync")
	for _, file := range []string{"backup_manifest", "global/pg_control"} {
		if info, err := os.Stat(filepath.Join(dir, "base", file)); err != nil || info.Size() == 0 {
			t.Errorf("the backup is not whole: %s: %v", file, err)
		}
	}
	tool("pg_recvlogical", "--create-slot", "--slot=changes", "--plugin=test_decoding")
	before := position()
	env.Server.Exec(t, "INSERT INTO orders VALUES (42)")
	tool("pg_receivewal", "--directory="+dir, "--no-loop", "--no-sync", "--endpos="+before)
	if got := tool("pg_recvlogical", "--start", "--slot=changes", "--file=-", "--no-loop", "--endpos="+position()); !contains(got, "n[integer]:42") {
		t.Errorf("changes: %s", got)
	}
	events := env.AwaitAudit(t, 1, of("backup", "TDB00I"))
	if events[0].Text("db_name") != "replication" {
		t.Errorf("physical replication is on record as %v", events[0])
	}
}

// TestReplicationOfProvisionedUsers: the account has the attribute while the
// session runs, a plain session beside it has not, and policy ends it.
func TestReplicationOfProvisionedUsers(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{
		Version: pgtest.Newest(t), HBA: replicationLines, Settings: map[string]string{"wal_level": "logical"},
	})
	env.Server.Exec(t, `ALTER ROLE "teleport-admin" REPLICATION`)
	env.Apply(t, replicationRole("follower", "create_db_user_mode: keep", `db_names: ["*"]`))
	env.AddUser(t, "follower", []string{"follower"}, nil)
	cfg := env.As(t, "follower").Proxy(t, identity.Route{Database: "example"})
	replicates := func(user string) bool {
		return text(t, env.Server.Superuser(t, "postgres"), "SELECT coalesce((SELECT rolreplication FROM pg_roles WHERE rolname = $1), false)::text", user) == "true"
	}

	physical := testenv.Connect(t, replicating(cfg, "true"))
	stream(t, physical)
	plain := testenv.Connect(t, cfg)
	account := text(t, plain, "SELECT current_user")
	if account == "follower" || replicates(account) || !replicates("follower") {
		t.Errorf("the plain session is %s, which replicates: %t", account, replicates(account))
	}
	testenv.Close(t, plain)
	testenv.Close(t, physical)
	awaitAccount(t, env, "follower", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
	if replicates("follower") {
		t.Error("the account keeps the attribute")
	}

	logical := testenv.Connect(t, replicating(cfg, "database"))
	if got := text(t, logical, "SELECT current_database()"); got != "postgres" {
		t.Errorf("SQL in a logical replication connection: %q", got)
	}
	env.Apply(t, testenv.Role("follower", "keep"))
	if end := awaitEnd(t, logical); end.Code != "57P01" || !contains(end.Message, "replication connections are not allowed") {
		t.Errorf("the session ended with %v", end)
	}
}

// replicating returns a configuration that asks for a replication connection,
// which knows simple queries only.
func replicating(cfg *pgx.ConnConfig, value string) *pgx.ConnConfig {
	cfg = cfg.Copy()
	cfg.RuntimeParams["replication"] = value
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return cfg
}

// stream follows the write-ahead log until something comes, and ends the copy in
// both directions as a standby does.
func stream(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	system, err := conn.PgConn().Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	front := conn.PgConn().Frontend()
	front.Send(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + string(system[0].Rows[0][2])})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	status := binary.BigEndian.AppendUint64([]byte{'r'}, 1)
	status = append(status, make([]byte, 8+8+8)...)
	front.Send(&pgproto3.CopyData{Data: append(status, 1)}) // an answer, please
	front.Send(&pgproto3.CopyDone{})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for {
		message, err := front.Receive()
		if err != nil {
			t.Fatalf("after %v: %v", seen, err)
		}
		seen = append(seen, fmt.Sprintf("%T", message))
		if _, ready := message.(*pgproto3.ReadyForQuery); ready {
			break
		}
	}
	all := strings.Join(seen, " ")
	if !strings.HasPrefix(all, "*pgproto3.CopyBothResponse") || !contains(all, "CopyData", "CopyDone", "CommandComplete") {
		t.Errorf("the stream was %s", all)
	}
}

// TestGettingAroundReplication: whoever may not replicate does not, however it is
// written, and whoever may read some databases does not read all of them.
func TestGettingAroundReplication(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, "CREATE ROLE leak LOGIN REPLICATION")
	env.Apply(t,
		strings.Replace(replicationRole("leak_plain", "", `db_names: ["*"], db_users: [leak]`), "allow_replication: true", "allow_replication: false", 1),
		strings.Replace(replicationRole("leak_elsewhere", "", `db_names: ["*"], db_users: [leak]`), `{"*": "*"}`, "{no: such}", 1),
		replicationRole("leak_some", "", `db_names: [postgres], db_users: [leak]`),
		replicationRole("leak_all", "", `db_names: ["*"], db_users: [leak]`),
		"kind: role\nversion: v7\nmetadata: {name: leak_not_secret}\nspec: {deny: {db_names: [secret]}}\n",
	)
	hire := func(name string, roles ...string) *pgx.ConnConfig {
		env.AddUser(t, name, roles, nil)
		return env.As(t, name).Proxy(t, identity.Route{Database: "example", DatabaseUser: "leak"})
	}
	plain := hire("leak_none", "leak_plain", "leak_elsewhere")
	notAllowed := refusal{"28000", "replication connections are not allowed", "allow_replication"}
	denied := refusal{"28000", "access to db denied", ""}
	for _, value := range []string{"true", "on", "yes", "1", "t", "database", "DATABASE", "", "maybe"} {
		notAllowed.check(t, testenv.Refused(t, replicating(plain, value)))
	}
	for _, c := range []struct {
		cfg  *pgx.ConnConfig
		want refusal
	}{
		{replicating(hire("leak_one", "leak_some"), "true"), denied},
		{replicating(hire("leak_but", "leak_all", "leak_not_secret"), "true"), denied},
	} {
		c.want.check(t, testenv.Refused(t, c.cfg))
	}

	// What PostgreSQL itself does not know as a request for replication is none.
	for _, p := range [][2]string{
		{"options", "-c replication=database"}, {"options", "--replication=on"}, {"options", `-c replica\tion=true`}, {"Replication", "database"}, {"REPLICATION", "true"},
	} {
		cfg := plain.Copy()
		cfg.RuntimeParams[p[0]] = p[1]
		if conn, err := testenv.TryConnect(t, cfg); err == nil {
			if _, err := conn.Exec(t.Context(), "IDENTIFY_SYSTEM"); err == nil {
				t.Errorf("%q opened a replication connection", p)
			}
		}
	}
	for _, params := range [][]string{
		{"replication", "off", "replication", "database"}, {"replication", "database", "replication", "off"}, {"replication", "off", "replication", "1"},
	} {
		if got := startRaw(t, plain, 3<<16, params...); !bytes.Contains(got, []byte("replication connections are not allowed")) {
			t.Errorf("%q: %q", params, got)
		}
	}
	if got := testenv.Refused(t, replicating(hire("leak_every", "leak_all"), "on")); got.Code != "28000" || !contains(got.Hint, "hostssl replication") {
		t.Errorf("without a line for replication: %s %s, hint: %s", got.Code, got.Message, got.Hint)
	}
	env.Apply(t, replicationRole("leak_own", "create_db_user_mode: keep", `db_names: ["*"]`))
	env.AddUser(t, "leak_own", []string{"leak_own"}, nil)
	own := env.As(t, "leak_own").Proxy(t, identity.Route{Database: "example"})
	if got := testenv.Refused(t, replicating(own, "database")); got.Code != "42501" || !contains(got.Hint, "LOGIN REPLICATION;") {
		t.Errorf("an admin that may not: %s %s, hint: %s", got.Code, got.Message, got.Hint)
	}
}

// startRaw sends a start-up message with these parameters, as often as they are
// there, and returns the beginning of the answer.
func startRaw(t *testing.T, cfg *pgx.ConnConfig, version uint32, params ...string) []byte {
	t.Helper()
	conn, err := cfg.DialFunc(context.WithoutCancel(t.Context()), "unix", fmt.Sprintf("%s/.s.PGSQL.%d", cfg.Host, cfg.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := binary.BigEndian.AppendUint32(nil, version)
	for _, word := range append([]string{"user", cfg.User, "database", cfg.Database}, params...) {
		body = append(append(body, word...), 0)
	}
	body = append(body, 0)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), body...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4096)
	n, err := io.ReadAtLeast(conn, answer, 5)
	if err != nil {
		t.Fatal(err)
	}
	return answer[:n]
}
