package agent_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// TestDoctor asks as the hub's owner does.
func TestDoctor(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{
		Version: pgtest.Newest(t), Service: testenv.SeedService + "  resources:\n  - labels: {\"*\": \"*\"}\n",
	})
	env.Hire(t, "alice", "keep", "reader")
	if found := doctor(t, env, "example"); len(found) != 0 {
		t.Fatalf("of a healthy server: %+v", found)
	}
	t.Run("policy", func(t *testing.T) { doctorKnowsPolicy(t, env) })
	t.Run("objects", func(t *testing.T) { doctorSeesObjects(t, env) })
	t.Run("read-only", func(t *testing.T) { doctorSeesReadOnly(t, env) })
	t.Run("pg_hba.conf", func(t *testing.T) { doctorRepairsLogin(t, env) })
	t.Run("configuration", func(t *testing.T) { doctorSeesConfiguration(t, env) })
	t.Run("replica", func(t *testing.T) {
		env.Server.Exec(t, `SELECT lo_from_bytea(1, '')`, `SELECT lo_export(1, 'standby.signal')`, `CHECKPOINT`)
		env.Server.Restart(t)
		one(t, doctor(t, env, "example"), "error read_only", "replica", "primary")
	})
}

func doctor(t *testing.T, env *testenv.Env, name string) []api.Finding {
	t.Helper()
	out, err := api.DoctorDatabase().Call(t.Context(), env.Admin(), api.DoctorDatabaseRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return out.Findings
}

// one checks the only finding.
func one(t *testing.T, found []api.Finding, what, problem, advice string) {
	t.Helper()
	if len(found) != 1 || found[0].Severity+" "+found[0].Check != what || !contains(found[0].Problem, problem) || !contains(found[0].Advice, advice) {
		t.Errorf("got %+v, want one %s about %q, advising %q", found, what, problem, advice)
	}
}

// doctorKnowsPolicy: what roles and traits hand out, and no more.
func doctorKnowsPolicy(t *testing.T, env *testenv.Env) {
	env.Server.Exec(t, `CREATE ROLE "of a trait"`, "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
		`GRANT CONNECT ON DATABASE closed TO "teleport-admin"`)
	env.Apply(t,
		testenv.Role("traits", "keep", "{{external.groups}}", "nowhere"),
		strings.ReplaceAll(testenv.Role("unused", "keep", "unused"), `["*"]`, "[closed]"),
		strings.ReplaceAll(testenv.Role("plain", "off", "plain"), "db_names", `db_users: ["*"]`+"\n    db_names"))
	env.AddUser(t, "bob", []string{"traits"}, map[string][]string{"groups": {"of a trait"}})
	env.AddUser(t, "carol", []string{"plain"}, nil)
	var sql []string
	for _, f := range doctor(t, env, "example") {
		sql = append(sql, f.SQL...)
	}
	want := []string{
		`CREATE ROLE "nowhere" NOLOGIN;`, `GRANT "nowhere" TO "teleport-admin" WITH ADMIN OPTION;`,
		`GRANT "of a trait" TO "teleport-admin" WITH ADMIN OPTION;`,
		`GRANT CONNECT ON DATABASE "closed" TO "nowhere";`, `GRANT CONNECT ON DATABASE "closed" TO "reader";`,
	}
	if diff := cmp.Diff(want, sql); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	env.Server.Exec(t, sql...)
	if found := doctor(t, env, "example"); len(found) != 0 {
		t.Errorf("after the repair: %+v", found)
	}
	env.As(t, "bob").Connect(t, "example", "closed")

	env.Apply(t, seedFile(t, "role-read-all-tables.yaml"))
	env.AddUser(t, "dora", []string{"read_all_tables"}, nil)
	one(t, doctor(t, env, "example"), "warning connect", "no db role of dora", "db role")
	env.Server.Exec(t, `GRANT CONNECT ON DATABASE closed TO "teleport-admin" WITH GRANT OPTION`)
	if found := doctor(t, env, "example"); len(found) != 0 {
		t.Errorf("where rights on objects bring CONNECT: %+v", found)
	}
}

// doctorSeesObjects: those that db_permissions select, in the database where they are.
func doctorSeesObjects(t *testing.T, env *testenv.Env) {
	env.Server.Exec(t, "CREATE DATABASE shop")
	shop := env.Server.Superuser(t, "shop")
	exec(t, shop, "CREATE TABLE public.wares (n int)")
	found := doctor(t, env, "example")
	one(t, found, "error db_permissions", "public", "")
	if found[0].Database != "shop" || !contains(found[0].Breaks, "dora") {
		t.Errorf("got %+v", found)
	}
	refusal{"42501", "cannot grant", "GRANT"}.check(t, env.As(t, "dora").Refused(t, "example", "shop"))
	exec(t, shop, found[0].SQL...)
	if found := doctor(t, env, "example"); len(found) != 0 {
		t.Errorf("after the repair: %+v", found)
	}
	exec(t, env.As(t, "dora").Connect(t, "example", "shop"), "SELECT * FROM public.wares")
}

// doctorSeesReadOnly although the agent's own connections override the setting.
func doctorSeesReadOnly(t *testing.T, env *testenv.Env) {
	env.Server.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
	testenv.Eventually(t, "the setting is seen", func() bool { return len(doctor(t, env, "example")) > 0 })
	found := doctor(t, env, "example")
	one(t, found, "warning read_only", "default_transaction_read_only", "")
	env.Server.Exec(t, found[0].SQL...)
	testenv.Eventually(t, "the server is repaired", func() bool { return len(doctor(t, env, "example")) == 0 })
}

func doctorRepairsLogin(t *testing.T, env *testenv.Env) {
	for _, c := range []struct{ line, problem string }{
		{"hostssl all postgres all cert", "no pg_hba.conf entry"},
		{"hostssl all all all reject", "rejects connection"},
	} {
		writeHBA(t, env, c.line)
		testenv.Eventually(t, "the server refuses", func() bool { return len(doctor(t, env, "example")) > 0 })
		found := doctor(t, env, "example")
		one(t, found, "error login", c.problem, "pg_hba.conf")
		if len(found[0].SQL) != 0 {
			t.Errorf("SQL does not help here: %+v", found)
		}
		writeHBA(t, env, found[0].HBA...)
		testenv.Eventually(t, "the server is repaired", func() bool { return len(doctor(t, env, "example")) == 0 })
	}
	writeHBA(t, env, "hostssl all all all scram-sha-256")
	testenv.Eventually(t, "the server asks for a password", func() bool { return len(doctor(t, env, "example")) > 0 })
	one(t, doctor(t, env, "example"), "error login", "asks for a password", "hostssl all all all cert")
	writeHBA(t, env, testenv.SeedHBA)
	testenv.Eventually(t, "the server is repaired", func() bool { return len(doctor(t, env, "example")) == 0 })
}

// writeHBA replaces pg_hba.conf. The socket stays open.
func writeHBA(t *testing.T, env *testenv.Env, lines ...string) {
	t.Helper()
	content := strings.Join(slices.Concat([]string{"local all all trust"}, lines, []string{""}), "\n")
	path := text(t, env.Server.Superuser(t, "postgres"), "SHOW hba_file")
	env.Server.Exec(t, fmt.Sprintf(`SELECT lo_from_bytea(1, '\x%s')`, hex.EncodeToString([]byte(content))),
		fmt.Sprintf(`SELECT lo_export(1, '%s')`, path), `SELECT lo_unlink(1)`, "SELECT pg_reload_conf()")
}

// doctorSeesConfiguration: what is wrong on our side.
func doctorSeesConfiguration(t *testing.T, env *testenv.Env) {
	stranger := pgtest.Start(t, pgtest.Options{})
	stranger.Exec(t, `CREATE ROLE "teleport-admin" LOGIN CREATEROLE`)
	const admin = "  admin_user: {name: teleport-admin}\n"
	other := func(name, more string) string {
		return strings.Replace(database(env, name, more), env.Server.Addr(), stranger.Addr(), 1)
	}
	for _, c := range []struct{ name, resource, what, problem, advice string }{
		{"headless", database(env, "headless", ""), "error admin_user", "no admin user", "admin_user.name"},
		{"azure", database(env, "azure", "  azure: {name: x}\n"), "error admin_user", "not possible on servers of type azure", "create_db_user_mode"},
		{"misnamed", database(env, "misnamed", admin+"  tls: {server_name: other.example.com}\n"), "error login", "for another name", "tls.server_name"},
		{"untrusted", other("untrusted", admin), "error login", "not signed by an authority we trust", "tls.ca_cert"},
		{"untrusting", other("untrusting", admin+"  tls: {mode: insecure}\n"), "error login", "refuses the TLS connection", "ssl_ca_file"},
		{"away", strings.Replace(database(env, "away", admin), env.Server.Addr(), "127.0.0.1:1", 1), "error login", "cannot be reached", "uri"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env.Apply(t, c.resource)
			awaitServed(t, env, c.name)
			one(t, doctor(t, env, c.name), c.what, c.problem, c.advice)
		})
	}
	t.Run("no roles ask for it", func(t *testing.T) {
		env.Apply(t, database(env, "quiet", ""))
		awaitServed(t, env, "quiet")
		for _, user := range []string{"alice", "bob", "dora"} {
			env.Remove(t, "user", user)
		}
		one(t, doctor(t, env, "quiet"), "advice admin_user", "no admin user", "admin_user.name")
	})
	t.Run("not registered", func(t *testing.T) {
		_, err := api.DoctorDatabase().Call(t.Context(), env.Admin(), api.DoctorDatabaseRequest{Name: "nothing"})
		if fault.KindOf(err) != fault.NotFound {
			t.Errorf("got %v", err)
		}
	})
}
