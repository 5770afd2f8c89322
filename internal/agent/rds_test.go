package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/rdstest"
	"github.com/postern-db/postern/internal/testenv"
)

// everything serves every registered database.
const everything = `db_service:
  resources: [{labels: {"*": "*"}}]
`

// rds is a gateway and a fake RDS server before its PostgreSQL.
type rds struct {
	*testenv.Env
	fake  *rdstest.Fake
	front *rdstest.Front
}

func startRDS(t *testing.T, version int) *rds {
	t.Helper()
	fake := rdstest.Start(t)
	env := testenv.Start(t, testenv.Options{Version: version, HBA: rdstest.HBA, Service: everything, AWS: fake.Config()})
	env.Server.Exec(t, "CREATE ROLE rds_iam", `GRANT rds_iam TO "teleport-admin" WITH ADMIN OPTION`)
	return &rds{Env: env, fake: fake, front: fake.Front(t, env.Server, "eu-west-1")}
}

// database returns a resource for the front; more are lines of its spec.
func (r *rds) database(name, region, more string) string {
	return fmt.Sprintf(`kind: db
version: v3
metadata: {name: %s}
spec:
  protocol: postgres
  uri: %q
  admin_user: {name: teleport-admin}
  aws: {region: %s, account_id: "123456789012", rds: {instance_id: orders, resource_id: db-ORDERS}}
%s`, name, r.front.Addr(), region, more)
}

func TestRDSSeedFlow(t *testing.T) {
	for _, version := range pgtest.Versions(t) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			r := startRDS(t, version)
			r.Apply(t, r.database("orders", "eu-west-1", ""))
			awaitServed(t, r.Env, "orders")
			alice := r.Hire(t, "alice", "keep", "reader")
			r.checkAdminOption(t, alice)
			conn := alice.Connect(t, "orders", "postgres")
			if got := text(t, conn, "SELECT current_user"); got != "alice" {
				t.Errorf("current_user is %q", got)
			}
			want := testenv.Account{Exists: true, Login: true, Roles: []string{"rds_iam", "reader", testenv.Group}}
			if diff := cmp.Diff(want, r.Account(t, "alice")); diff != "" {
				t.Errorf("during the session (-want +got):\n%s", diff)
			}
			testenv.Close(t, conn)
			awaitAccount(t, r.Env, "alice", testenv.Account{Exists: true, Roles: []string{testenv.Group}})

			// The admin user can be used by people whose roles do not create users.
			r.Apply(t, strings.Replace(testenv.Role("dba", "off"), "db_roles:", `db_users: ["teleport-admin"]`+"\n    db_roles:", 1))
			r.AddUser(t, "dora", []string{"dba"}, nil)
			route := identity.Route{Database: "orders", DatabaseName: "postgres", DatabaseUser: "teleport-admin"}
			admin := testenv.Connect(t, r.As(t, "dora").Proxy(t, route))
			if got := text(t, admin, "SELECT current_user"); got != "teleport-admin" {
				t.Errorf("current_user is %q", got)
			}
			if refused := r.front.Refused(); len(refused) != 0 {
				t.Errorf("refused: %q", refused)
			}
		})
	}
}

// checkAdminOption: without ADMIN OPTION on rds_iam sessions are refused where
// PostgreSQL asks for it, with the SQL that repairs it, and doctor knows before
// anybody connects. Before version 16 CREATEROLE is enough.
func (r *rds) checkAdminOption(t *testing.T, alice *testenv.Person) {
	t.Helper()
	r.Server.Exec(t, `REVOKE ADMIN OPTION FOR rds_iam FROM "teleport-admin"`)
	const repair = `GRANT "rds_iam" TO "teleport-admin" WITH ADMIN OPTION;`
	if r.Server.Version >= 16 {
		one(t, doctor(t, r.Env, "orders"), "error rds_iam", `lacks ADMIN OPTION on role rds_iam`, "")
		refused := alice.Refused(t, "orders", "postgres")
		refusal{"42501", `must have ADMIN OPTION on role "rds_iam"`, repair}.check(t, refused)
		if r.Account(t, "alice").Exists {
			t.Error("a refused session has left an account")
		}
		if refused.Hint != "run as superuser: "+repair {
			t.Errorf("the hint is not SQL and no more: %q", refused.Hint)
		}
	} else {
		one(t, doctor(t, r.Env, "orders"), "warning rds_iam", `lacks ADMIN OPTION on role rds_iam`, "")
		testenv.Close(t, alice.Connect(t, "orders", "postgres"))
		awaitAccount(t, r.Env, "alice", disabled)
	}
	found := doctor(t, r.Env, "orders")
	if len(found) != 1 || !slices.Equal(found[0].SQL, []string{repair}) {
		t.Fatalf("doctor finds %+v, want one thing that is repaired by %s", found, repair)
	}
	r.Server.Exec(t, found[0].SQL...)
	if found := doctor(t, r.Env, "orders"); len(found) != 0 {
		t.Errorf("after the repair doctor finds %+v", found)
	}
}

func TestRDSAssumesARole(t *testing.T) {
	t.Parallel()
	r := startRDS(t, 0)
	const role = "arn:aws:iam::210987654321:role/databases"
	r.fake.AllowRole(role, rdstest.Other, "ours")
	r.front.Account = rdstest.Other
	r.Apply(t, strings.Replace(r.database("orders", "eu-west-1", ""), "aws: {", "aws: {assume_role_arn: "+role+", external_id: ours, ", 1))
	awaitServed(t, r.Env, "orders")
	alice := r.Hire(t, "alice", "keep", "reader")
	testenv.Close(t, alice.Connect(t, "orders", "postgres"))
	testenv.Close(t, alice.Connect(t, "orders", "postgres"))
	if got := r.fake.Calls("AssumeRole"); got != 1 {
		t.Errorf("the role was assumed %d times, want once", got)
	}
}

func TestRDSFaults(t *testing.T) {
	t.Parallel()
	r := startRDS(t, pgtest.Newest(t))
	alice := r.Hire(t, "alice", "keep", "reader")
	right := r.database("DB", "eu-west-1", "")
	as := func(arn string) string {
		return strings.Replace(right, "aws: {", "aws: {assume_role_arn: "+arn+", ", 1)
	}
	const grant = `GRANT rds_iam TO "teleport-admin" WITH ADMIN OPTION`
	tests := []struct {
		name     string
		resource string
		prepare  func()
		want     refusal
	}{
		{"wrong-region", r.database("DB", "us-east-1", ""), nil, refusal{"28000", "PAM authentication failed", "is in the region us-east-1"}},
		{"hint-names-iam-action", r.database("DB", "us-east-1", ""), nil, refusal{"28000", "admin user", "rds-db:connect on arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ORDERS/teleport-admin"}},
		{"role-not-allowed", as("arn:aws:iam::210987654321:role/forbidden"), nil, refusal{"57P03", "cannot be assumed", "sts:AssumeRole"}},
		{
			"throttled", as("arn:aws:iam::210987654321:role/busy"),
			func() { r.fake.Fail("AssumeRole", "", "Throttling", -1) },
			refusal{"57P03", "cannot be assumed", "limits how often"},
		},
		{"expired", right, func() { r.fake.Skew(16 * time.Minute) }, refusal{"28000", "PAM authentication failed", grant}},
	}
	for _, test := range tests { // one after the other: they share a server
		t.Run(test.name, func(t *testing.T) {
			defer r.fake.Heal()
			defer r.fake.Skew(0)
			if test.prepare != nil {
				test.prepare()
			}
			r.Apply(t, strings.Replace(test.resource, "name: DB", "name: "+test.name, 1))
			awaitServed(t, r.Env, test.name)
			test.want.check(t, alice.Refused(t, test.name, "postgres"))
		})
	}
}

// TestRDSUnknownRoots: a server whose certificate is of an authority that we do not
// know, as in regions whose roots are not shipped. Signing it one, as for a server of
// one's own, is not what helps.
func TestRDSUnknownRoots(t *testing.T) {
	t.Parallel()
	stranger, err := pgtest.NewAuthority("somebody else")
	if err != nil {
		t.Fatal(err)
	}
	fake := rdstest.Start(t)
	right := fake.Config().Roots
	cfg := fake.Config()
	cfg.Roots = stranger.PEM()
	env := testenv.Start(t, testenv.Options{HBA: rdstest.HBA, Service: everything, AWS: cfg})
	r := &rds{Env: env, fake: fake, front: fake.Front(t, env.Server, "eu-west-1")}
	env.Server.Exec(t, "CREATE ROLE rds_iam", `GRANT rds_iam TO "teleport-admin" WITH ADMIN OPTION`)
	with := func(name string, pem []byte) string {
		return r.database(name, "eu-west-1", "  tls:\n    ca_cert: |\n      "+strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n      "))
	}
	r.Apply(t, r.database("none", "eu-west-1", ""), with("wrong", stranger.PEM()), with("right", right))
	alice := r.Hire(t, "alice", "keep", "reader")
	for name, hint := range map[string]string{"none": "Download the region's certificate bundle", "wrong": "Put the right one there"} {
		awaitServed(t, r.Env, name)
		refusal{"57P03", "not signed by an authority we trust", hint}.check(t, alice.Refused(t, name, "postgres"))
		one(t, doctor(t, r.Env, name), "error login", "not signed by an authority we trust", hint)
	}
	awaitServed(t, r.Env, "right")
	testenv.Close(t, alice.Connect(t, "right", "postgres"))
}

// TestUserOutsideIAM: a database user that Postern did not make and that is not a
// member of rds_iam gets to read what is missing. The server asks such a user for a
// password, with MD5 if that is its default.
func TestUserOutsideIAM(t *testing.T) {
	t.Parallel()
	for encryption, want := range map[string]refusal{
		"scram-sha-256": {"28P01", "password authentication failed", `GRANT rds_iam TO "report";`},
		"md5":           {"28000", "asks for MD5 authentication", `GRANT rds_iam TO "report";`},
	} {
		t.Run(encryption, func(t *testing.T) {
			t.Parallel()
			r := startRDS(t, 0)
			r.Server.Exec(t, "ALTER SYSTEM SET password_encryption = '"+encryption+"'", "SELECT pg_reload_conf()", "CREATE ROLE report LOGIN")
			r.Apply(t, r.database("orders", "eu-west-1", ""), strings.Replace(testenv.Role("plain", "off"), "db_roles:", "db_users: [report]\n    db_roles:", 1))
			awaitServed(t, r.Env, "orders")
			r.AddUser(t, "paul", []string{"plain"}, nil)
			route := identity.Route{Database: "orders", DatabaseName: "postgres", DatabaseUser: "report"}
			want.check(t, testenv.Refused(t, r.As(t, "paul").Proxy(t, route)))
		})
	}
}

func TestRedshiftIsRefused(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, `kind: db
version: v3
metadata: {name: warehouse}
spec: {protocol: postgres, uri: "warehouse.abc.eu-west-1.redshift.amazonaws.com:5439"}`,
		strings.Replace(testenv.Role("redshift", "off"), "db_roles:", "db_users: [report]\n    db_roles:", 1))
	awaitServed(t, env, "warehouse")
	env.AddUser(t, "redshifter", []string{"redshift"}, nil)
	route := identity.Route{Database: "warehouse", DatabaseName: "postgres", DatabaseUser: "report"}
	refusal{"08P01", "Redshift (type redshift), which is not supported", "without this gateway"}.check(t, testenv.Refused(t, env.As(t, "redshifter").Proxy(t, route)))
}
