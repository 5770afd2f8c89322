package provision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// sound are the facts of a server on which nothing is wrong with sample.
func sound() facts {
	f := facts{Version: 180000, Database: "app", Roles: []roleFacts{{Name: "reader", Exists: true, AdminOf: true}}}
	f.Admin.CreateRole = true
	f.Databases = []databaseFacts{{Name: "app", Admin: true, Public: true}, {Name: "template1", Admin: true, Public: true, Template: true}}
	return f
}

func sample() Checkup {
	return Checkup{AdminName: "adm", Handouts: []Handout{{Users: []string{"alice", "bob"}, Roles: []string{"reader"}, Databases: []string{"app"}}}}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 31) + "x" // 63 bytes
	for _, c := range []struct {
		name  string
		spoil func(*Checkup, *facts)
		want  []Finding // severity, check and SQL
	}{
		{name: "nothing", spoil: func(*Checkup, *facts) {}},
		{
			"replica: nothing else is said", func(c *Checkup, f *facts) { f.Recovery, f.Admin.CreateRole = true, false },
			[]Finding{{Severity: SeverityError, Check: "read_only"}},
		},
		{"read-only for the admin only", func(c *Checkup, f *facts) { f.ReadOnly.On, f.ReadOnly.Source = true, "user" }, nil},
		{
			"read-only on the command line", func(c *Checkup, f *facts) { f.ReadOnly.On, f.ReadOnly.Source = true, "command line" },
			[]Finding{{Severity: SeverityWarning, Check: "read_only"}},
		},
		{
			"superuser needs no ADMIN OPTION", func(c *Checkup, f *facts) {
				f.Admin.Superuser, f.Admin.CreateRole, f.Roles[0].AdminOf = true, false, false
				f.Group = roleFacts{Exists: true}
			},
			[]Finding{{Severity: SeverityAdvice, Check: "superuser"}},
		},
		{"before 16 CREATEROLE is enough", func(c *Checkup, f *facts) {
			f.Version, f.Roles[0].AdminOf, f.Group = 150000, false, roleFacts{Exists: true}
			f.Accounts = []accountFacts{{Name: "alice", Managed: true}}
		}, nil},
		{
			"role, group and accounts of others", func(c *Checkup, f *facts) {
				f.Roles[0].AdminOf, f.Group = false, roleFacts{Exists: true}
				f.Accounts = []accountFacts{{Name: "alice", Managed: true}, {Name: "left", Managed: true}}
			},
			[]Finding{
				{Severity: SeverityError, Check: "db_role", SQL: []string{`GRANT "reader" TO "adm" WITH ADMIN OPTION;`}},
				{Severity: SeverityError, Check: "group", SQL: []string{`GRANT "teleport-auto-user" TO "adm" WITH ADMIN OPTION;`}},
				{Severity: SeverityError, Check: "account", SQL: []string{`GRANT "alice" TO "adm" WITH ADMIN OPTION;`}},
				{Severity: SeverityWarning, Check: "account", SQL: []string{`GRANT "left" TO "adm" WITH ADMIN OPTION;`}},
			},
		},
		{
			"replication", func(c *Checkup, f *facts) { c.Handouts[0].Replication = true },
			[]Finding{{Severity: SeverityWarning, Check: "replication", SQL: []string{`ALTER ROLE "adm" REPLICATION;`}}},
		},
		{"replication by an admin that has it", func(c *Checkup, f *facts) { c.Handouts[0].Replication, f.Admin.Replication = true, true }, nil},
		{
			"replication before 16", func(c *Checkup, f *facts) {
				c.Handouts[0].Replication, f.Admin.Replication, f.Version = true, true, 150000
			},
			[]Finding{{Severity: SeverityWarning, Check: "replication"}},
		},
		{
			"the group of bundles", func(c *Checkup, f *facts) { f.Roles = append(f.Roles, roleFacts{Name: BundleGroup, Exists: true}) },
			[]Finding{{Severity: SeverityWarning, Check: "group", SQL: []string{`GRANT "postern-bundles" TO "adm" WITH ADMIN OPTION;`}}},
		},
		{
			"roles that cannot be granted", func(c *Checkup, f *facts) {
				c.Handouts[0].Roles = []string{Group, BundleGroup, "adm", "none", "pg_database_owner", "root", "reader"}
				f.Roles = append(f.Roles, roleFacts{Name: "pg_database_owner", Exists: true}, roleFacts{Name: "root", Exists: true, Superuser: true, AdminOf: true})
			},
			slices.Repeat([]Finding{{Severity: SeverityError, Check: "db_role"}}, 4),
		},
		{
			"a superuser's role by a superuser", func(c *Checkup, f *facts) { f.Admin.Superuser, f.Roles[0].Superuser = true, true },
			[]Finding{{Severity: SeverityAdvice, Check: "superuser"}, {Severity: SeverityWarning, Check: "db_role"}},
		},
		{
			"namesakes: only harmless ones are handed over", func(c *Checkup, f *facts) {
				f.Accounts = []accountFacts{{Name: "alice", Plain: true}, {Name: "bob"}}
			},
			[]Finding{
				{Severity: SeverityError, Check: "namesake", SQL: []string{
					`CREATE ROLE "teleport-auto-user" NOLOGIN;`, `GRANT "teleport-auto-user" TO "adm" WITH ADMIN OPTION;`,
					`GRANT "teleport-auto-user" TO "alice";`, `GRANT "alice" TO "adm" WITH ADMIN OPTION;`,
				}},
				{Severity: SeverityError, Check: "namesake"},
			},
		},
		{
			"a namesake that is handed out stays", func(c *Checkup, f *facts) {
				c.Handouts = append(c.Handouts, Handout{Users: []string{"reader"}, Databases: []string{"app"}})
				f.Accounts = []accountFacts{{Name: "reader", Plain: true}}
			},
			[]Finding{{Severity: SeverityError, Check: "namesake"}},
		},
		{
			"one role lets two sets in", func(c *Checkup, f *facts) {
				c.Handouts = []Handout{
					{Users: []string{"a"}, Roles: []string{"alone", "both"}, Databases: []string{"*"}},
					{Users: []string{"b"}, Roles: []string{"both", "other"}, Databases: []string{"app"}},
					{Users: []string{"c"}, Roles: []string{"writer"}, Databases: []string{"app"}},
					{Users: []string{"d"}, Databases: []string{"app"}},
					{Users: []string{"e"}, Roles: []string{"reader"}, Databases: []string{"app"}},
					{Users: []string{"f"}, Roles: []string{"writer"}, Databases: []string{"*"}, Except: []string{"app"}},
				}
				for _, name := range []string{"alone", "both", "other", "writer"} {
					f.Roles = append(f.Roles, roleFacts{Name: name, Exists: true, AdminOf: true})
				}
				f.Databases[0] = databaseFacts{Name: "app", Admin: true, Roles: []string{"reader"}}
				f.Databases[1].Public = false // a template, which "*" does not mean
			},
			[]Finding{
				{Severity: SeverityError, Check: "connect", SQL: []string{`GRANT CONNECT ON DATABASE "app" TO "both";`}},
				{Severity: SeverityError, Check: "connect", SQL: []string{`GRANT CONNECT ON DATABASE "app" TO "writer";`}},
				{Severity: SeverityWarning, Check: "connect"},
			},
		},
		{"the group lets everybody in", func(c *Checkup, f *facts) { f.Databases[0] = databaseFacts{Name: "app", Admin: true, Group: true} }, nil},
		{"rights on objects bring CONNECT", func(c *Checkup, f *facts) {
			c.Handouts[0].Permissions = func([]access.Object) access.ObjectPermissions { return access.ObjectPermissions{} }
			f.Databases[0] = databaseFacts{Name: "app", Admin: true, Grants: true}
		}, nil},
		{
			"the admin may not grant CONNECT", func(c *Checkup, f *facts) {
				c.Handouts[0].Permissions = func([]access.Object) access.ObjectPermissions { return access.ObjectPermissions{} }
				f.Databases[0] = databaseFacts{Name: "app", Admin: true}
			},
			[]Finding{{Severity: SeverityError, Check: "connect", SQL: []string{`GRANT CONNECT ON DATABASE "app" TO "reader";`}}},
		},
		{
			"admin without CONNECT", func(c *Checkup, f *facts) { f.Databases[0].Admin = false },
			[]Finding{{Severity: SeverityError, Check: "connect", SQL: []string{`GRANT CONNECT ON DATABASE "app" TO "adm";`}}},
		},
		{
			"admin works elsewhere", func(c *Checkup, f *facts) { c.DefaultDatabase, f.Databases[0].Admin = "template1", false },
			[]Finding{{Severity: SeverityWarning, Check: "connect", SQL: []string{`GRANT CONNECT ON DATABASE "app" TO "adm";`}}},
		},
		{"admin without CONNECT where nobody goes", func(c *Checkup, f *facts) {
			f.Databases = append(f.Databases, databaseFacts{Name: "other"})
		}, nil},
		{
			"databases that are missing", func(c *Checkup, f *facts) {
				c.DefaultDatabase = "gone"
				c.Handouts[0].Databases, c.Handouts[0].Except = []string{"*", "elsewhere", "denied"}, []string{"denied"}
			},
			[]Finding{{Severity: SeverityAdvice, Check: "database"}, {Severity: SeverityError, Check: "database"}},
		},
		{
			"names", func(c *Checkup, f *facts) {
				c.Handouts[0].Users = []string{long, long + "1", "pg_me", "public", "reader", ""}
			},
			slices.Repeat([]Finding{{Severity: SeverityError, Check: "user_name"}}, 5),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkup, have := sample(), sound()
			c.spoil(&checkup, &have)
			var got []Finding
			for _, f := range checkup.findings(have) {
				if f.Problem == "" || f.Breaks == "" || len(f.SQL) == 0 && f.Advice == "" {
					t.Errorf("says too little: %+v", f)
				}
				got = append(got, Finding{Severity: f.Severity, Check: f.Check, SQL: f.SQL})
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLoginFindings: what repairs a login depends on where in the server it ended.
func TestLoginFindings(t *testing.T) {
	t.Parallel()
	pg := func(code, routine string) error { return &pgconn.PgError{Code: code, Routine: routine, Message: "no"} }
	makeAdmin := []string{
		`DO 'BEGIN CREATE ROLE "it''s"; EXCEPTION WHEN duplicate_object THEN NULL; END';`, `ALTER ROLE "it's" LOGIN CREATEROLE;`,
	}
	for _, c := range []struct {
		name string
		iam  bool
		err  error
		sql  []string
		hba  bool
	}{
		{name: "no such role", err: pg("28000", unknownUserRoutine), sql: makeAdmin},
		{name: "no line", err: pg("28000", "ClientAuthentication"), hba: true},
		{name: "a password is asked for", err: pg("28P01", "auth_failed"), hba: true},
		{name: "a proxy does not tell", err: pg("28000", ""), sql: makeAdmin, hba: true},
		{name: "on RDS", iam: true, err: pg("28P01", "auth_failed"), sql: append(slices.Clone(makeAdmin), `GRANT "rds_iam" TO "it's" WITH ADMIN OPTION;`)},
		{name: "too many connections", err: pg("53300", "")},
		{name: "a start-up parameter", err: pg("42501", "set_config_option")},
		{name: "told by us", err: fault.New(fault.Unavailable, "no").WithHint("ask")},
		{name: "not told", err: errors.New("no")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkup := Checkup{AdminName: "it's", IAM: c.iam, Connect: func(context.Context, string) (*pgconn.PgConn, error) { return nil, c.err }}
			found, err := Doctor(t.Context(), checkup)
			if err != nil || len(found) != 1 {
				t.Fatalf("%v, %+v", err, found)
			}
			f := found[0]
			if f.Severity != SeverityError || f.Check != "login" || !strings.HasSuffix(f.Problem, ": no") || (len(f.HBA) > 0) != c.hba || len(f.SQL) == 0 && f.Advice == "" {
				t.Errorf("got %+v", f)
			}
			if diff := cmp.Diff(c.sql, f.SQL); diff != "" {
				t.Errorf("SQL (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCollidingNames: PostgreSQL would take one user for the other, and cuts
// names off between characters.
func TestCollidingNames(t *testing.T) {
	t.Parallel()
	begin := strings.Repeat("é", 31) // 62 bytes
	c := Checkup{Handouts: []Handout{{Users: []string{begin, begin + "é", begin + "x", "alice"}}}}
	found := c.nameFindings()
	if len(found) != 1 || !strings.Contains(found[0].Advice, "take the user for "+begin+",") {
		t.Errorf("got %+v", found)
	}
}

func TestPrintableName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"plain":           `"plain"`,
		`a"b\c`:           `"a""b\c"`,
		"😀 ü":             `"😀 ü"`,
		"a\nb\\\"\u202e'": `U&"a\+00000Ab\\""\+00202E'"`,
	} {
		if got := printableName(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}
