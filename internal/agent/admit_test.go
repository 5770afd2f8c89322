package agent_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestPeopleTryingToGetAround: every wrong certificate and every wrong name gets
// an ErrorResponse that says what to do, and no account comes of it.
func TestPeopleTryingToGetAround(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	mallory := env.Hire(t, "mallory", "keep", "mallory_reader")
	example := identity.Route{Database: "example", DatabaseName: "postgres"}
	own := identity.Identity{User: "mallory", Cluster: env.Cluster, Roles: []string{"mallory"}, Route: example}
	good := mallory.DatabaseCertificate(t, example)
	other, err := ca.New(ca.User, env.Cluster, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	user := env.Authority(t, ca.User, time.Now)
	yesterday := env.Authority(t, ca.User, func() time.Time { return time.Now().Add(-24 * time.Hour) })
	stranger, nobody, nowhere := own, own, own
	stranger.Cluster = "other.test"
	nobody.User = "nobody-at-all"
	nowhere.Route.Database = "nowhere"
	foreign, err := ca.New(ca.User, "other.test", time.Now)
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name string
		cert tls.Certificate
		sni  string
		want refusal
	}{
		{"no certificate", tls.Certificate{}, "", refusal{"28000", "a client certificate is needed", "postern db connect"}},
		{"login certificate", mallory.Certificate(t), "", refusal{"28000", "not for a database", "postern db login"}},
		{"expired certificate", forge(t, yesterday, own), "", refusal{"28000", "expired", "postern login"}},
		{"authority of another cluster", forge(t, foreign, stranger), "", refusal{"28000", "", "postern login"}},
		{"authority that took our name", forge(t, other, own), "", refusal{"28000", "", "postern login"}},
		{"database client certificate", databaseClient(t, env, "mallory"), "", refusal{"28000", "", "postern login"}},
		{"user that does not exist", forge(t, user, nobody), "", refusal{"28000", `user "nobody-at-all" does not exist any more`, ""}},
		{"database that does not exist", forge(t, user, nowhere), "nowhere.db." + env.Cluster, refusal{"3D000", `database "nowhere" not found`, "postern db ls"}},
		{"certificate of another database", good, "other.db." + env.Cluster, refusal{"28000", `for database "example", the connection is for "other"`, "postern db login other"}},
		{"certificate of another database in capitals", good, "OTHER.DB." + env.Cluster, refusal{"28000", `for database "example"`, "postern db login"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := mallory.DirectWith(t, example, c.cert)
			if c.sni != "" {
				cfg.TLSConfig.ServerName = c.sni
			}
			c.want.check(t, testenv.Refused(t, cfg))
		})
	}
	if env.Account(t, "mallory").Exists {
		t.Error("an account was made for a refused session")
	}
	if got := text(t, testenv.Connect(t, mallory.Direct(t, example)), "SELECT current_user"); got != "mallory" {
		t.Errorf("the good certificate opens a session of %q", got)
	}
}

// forge has an authority issue a user certificate.
func forge(t testing.TB, a *ca.Authority, id identity.Identity) tls.Certificate {
	t.Helper()
	return issued(t, func(pub crypto.PublicKey) (*x509.Certificate, error) { return a.IssueUser(id, pub, time.Hour) })
}

func databaseClient(t *testing.T, env *testenv.Env, name string) tls.Certificate {
	t.Helper()
	a := env.Authority(t, ca.DatabaseClient, time.Now)
	return issued(t, func(pub crypto.PublicKey) (*x509.Certificate, error) {
		return a.IssueDatabaseClient(name, pub, time.Hour)
	})
}

func issued(t testing.TB, issue func(crypto.PublicKey) (*x509.Certificate, error)) tls.Certificate {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := issue(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// TestServerNameThatRoutesNothing: programs that know the gateway by its address
// get in, the certificate says where to.
func TestServerNameThatRoutesNothing(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	route := identity.Route{Database: "example", DatabaseName: "postgres"}
	walker := env.Hire(t, "walker", "keep", "walker_reader")
	for _, name := range []string{"127.0.0.1", "localhost"} {
		cfg := walker.Direct(t, route)
		cfg.TLSConfig.ServerName = name
		testenv.Connect(t, cfg)
	}
	cfg := walker.Direct(t, route)
	cfg.TLSConfig.NextProtos, cfg.SSLNegotiation = []string{"postgresql"}, "direct"
	testenv.Connect(t, cfg)
}

// TestStartupParameters: what changes who the session is, is refused, however it
// is written; everything else passes.
func TestStartupParameters(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	route := identity.Route{Database: "example", DatabaseName: "postgres"}
	trickster := env.Hire(t, "trickster", "keep", "trickster_reader")
	proxy := trickster.Proxy(t, route)
	with := func(name, value string) *pgx.ConnConfig {
		cfg := proxy.Copy()
		cfg.RuntimeParams[name] = value
		return cfg
	}
	authorization := refusal{"28000", "session_authorization is not allowed", "SET ROLE"}
	replication := refusal{"28000", "replication connections are not allowed", "allow_replication"}
	for _, c := range []struct {
		name, value string
		want        refusal
	}{
		{"session_authorization", "postgres", authorization},
		{"Session_Authorization", "postgres", authorization},
		{"options", "-c session_authorization=postgres", authorization},
		{"options", "-csession_authorization=postgres", authorization},
		{"options", "-c work_mem=8MB --session_authorization=postgres", authorization},
		{"options", "--SESSION-Authorization=postgres", authorization},
		{"options", `-c session\_authorization=postgres`, authorization},
		{"replication", "true", replication},
		{"replication", "database", replication},
		{"replication", "on", replication},
	} {
		t.Run(c.name+" "+c.value, func(t *testing.T) { c.want.check(t, testenv.Refused(t, with(c.name, c.value))) })
	}
	if got := testenv.Refused(t, with("options", "-c log_statement=none")); got.Code != "42501" || contains(got.Hint, "CONNECT") {
		t.Errorf("a parameter for superusers: %s %s, hint: %s", got.Code, got.Message, got.Hint)
	}
	conn := testenv.Connect(t, with("options", "-c statement_timeout=1234 -c search_path=pg_temp"))
	if got := text(t, conn, "SHOW statement_timeout"); got != "1234ms" {
		t.Errorf("statement_timeout is %s", got)
	}
	conn = testenv.Connect(t, with("application_name", "my tool"))
	if got := text(t, conn, "SHOW application_name"); got != "my tool" {
		t.Errorf("application_name is %s", got)
	}
	if events := env.AwaitAudit(t, 1, of("trickster", "TDB00I")); events[len(events)-1].Text("user_agent") != "my tool" {
		t.Errorf("the start is on record as %v", events[len(events)-1])
	}
	conn = testenv.Connect(t, with("options", "-c application_name=by\\ options"))
	if got := text(t, conn, "SHOW application_name"); got != "by options" {
		t.Errorf("application_name is %s", got)
	}
	if got := text(t, testenv.Connect(t, proxy), "SHOW application_name"); !strings.HasPrefix(got, "postern ") {
		t.Errorf("application_name is %s", got)
	}
	testenv.Connect(t, with("replication", "off"))
}

// TestStartupMessage: what PostgreSQL answers to versions and options of the
// protocol that it does not know, and to packets at and over its limit of size.
func TestStartupMessage(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	proxy := env.Hire(t, "starter", "keep", "starter_reader").Proxy(t, identity.Route{Database: "example", DatabaseName: "postgres"})
	for _, c := range []struct {
		version uint32
		params  []string
		want    string // the answer begins with
	}{
		{3 << 16, nil, "R\x00\x00\x00\x08\x00\x00\x00\x00"},
		{3<<16 | 2, nil, "R"},
		{3<<16 | 9999, nil, "v\x00\x00\x00\x0c\x00\x03\x00\x02\x00\x00\x00\x00R"},
		{3 << 16, []string{"_pq_.future", "1"}, "v\x00\x00\x00\x18\x00\x03\x00\x00\x00\x00\x00\x01_pq_.future\x00R"},
		{3 << 16, []string{"application_name", strings.Repeat("x", 9946)}, "R"}, // 10,000 bytes
		{3 << 16, []string{"application_name", strings.Repeat("x", 9947)}, "E"},
		{2 << 16, nil, "E"},
		{4 << 16, nil, "E"},
		// Of duplicates the last counts: nobody is let in by one name and logs in by another.
		{3 << 16, []string{"user", "postgres"}, "E"},
		{3 << 16, []string{"user", "postgres", "user", "starter"}, "R"},
		{3 << 16, []string{"user", ""}, "E"},
		{3 << 16, []string{"database", "nowhere", "database", "postgres"}, "R"},
		{3 << 16, []string{"options", "", "options", "-c session_authorization=postgres"}, "E"},
		{3 << 16, []string{"options", "-c session_authorization=postgres", "options", ""}, "E"},
		{3 << 16, []string{"options", "-c role=postgres"}, "E"}, // PostgreSQL says so
		{3 << 16, []string{"_pq_.session_authorization", "postgres", "_pq_.user", "postgres"}, "v"},
	} {
		if got := string(startRaw(t, proxy, c.version, c.params...)); !strings.HasPrefix(got, c.want) {
			t.Errorf("version %x with %.40q: %.80q, want %q", c.version, c.params, got, c.want)
		}
	}
}

// TestCertificateBindsUserAndName of the route it was issued for.
func TestCertificateBindsUserAndName(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Server.Exec(t, "CREATE ROLE bound_one LOGIN", "CREATE ROLE bound_two LOGIN")
	env.Apply(t, `kind: role
version: v7
metadata: {name: bound}
spec:
  allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: [bound_one, bound_two]}
`)
	env.AddUser(t, "bound", []string{"bound"}, nil)
	cfg := env.As(t, "bound").Direct(t, identity.Route{Database: "example", DatabaseUser: "bound_one", DatabaseName: "postgres"})
	testenv.Connect(t, cfg)
	other := cfg.Copy()
	other.User = "bound_two"
	refusal{"28000", `this certificate is for database user "bound_one", not "bound_two"`, "postern db connect example"}.check(t, testenv.Refused(t, other))
	other = cfg.Copy()
	other.Database = "template1"
	refusal{"28000", `this certificate is for database name "postgres", not "template1"`, "postern db connect example --db-name=template1"}.check(t, testenv.Refused(t, other))
}
