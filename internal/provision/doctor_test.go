package provision_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// patient is a server that a test breaks and the doctor looks at.
type patient struct {
	*provision.Checkup

	pg *pgtest.Server
	db string
}

// The names of the patient's admin and of its user are as hostile as PostgreSQL allows.
const (
	doctorAdmin = `ad"min'; DROP ROLE postgres; --`
	doctorRole  = "reader\n\x1b[31m\"\\"
	rdsRole     = "rds_iam"
	doctorUser  = `alice'"$$ – ünïcode`
)

// TestDoctor breaks a server in every way that SQL can repair. Each time the
// doctor must notice, and exactly the SQL that it prints must repair it.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.Start(t, pgtest.Options{Version: version})
			for _, c := range brokenSetups() {
				if version < c.since {
					continue
				}
				t.Run(c.name, func(t *testing.T) { c.run(t, newPatient(t, pg)) })
			}
		})
	}
}

// broken is one way to break a server.
type broken struct {
	name  string
	since int    // the version from which this breaks anything
	check string // what the findings must be about
	// wreck breaks the server, or what policy asks of it.
	wreck func(t *testing.T, p *patient)
	// more is how often the doctor may find more once it has been repaired.
	more int
}

func brokenSetups() []broken {
	return []broken{
		{name: "no CREATEROLE", check: "createrole", wreck: func(t *testing.T, p *patient) { p.exec(t, "ALTER ROLE %s NOCREATEROLE", doctorAdmin) }},
		{name: "admin may not log in", check: "login", wreck: func(t *testing.T, p *patient) { p.exec(t, "ALTER ROLE %s NOLOGIN", doctorAdmin) }},
		// Since 16 ADMIN OPTION on the roles is missing as well, which nobody can see before.
		{name: "no admin", check: "login", more: 1, wreck: func(t *testing.T, p *patient) {
			p.exec(t, "DROP OWNED BY %s", doctorAdmin)
			p.exec(t, "DROP ROLE %s", doctorAdmin)
		}},
		{name: "role does not exist", check: "db_role", wreck: func(t *testing.T, p *patient) {
			p.Handouts[0].Roles = append(p.Handouts[0].Roles, `Missing "role"`)
			p.forget(t, `Missing "role"`)
		}},
		{name: "no ADMIN OPTION on a role", since: 16, check: "db_role", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "REVOKE ADMIN OPTION FOR %s FROM %s", doctorRole, doctorAdmin)
		}},
		{name: "no ADMIN OPTION on a predefined role", since: 16, check: "db_role", wreck: func(t *testing.T, p *patient) {
			p.Handouts[0].Roles = append(p.Handouts[0].Roles, "pg_monitor")
		}},
		{name: "no ADMIN OPTION on the group", since: 16, check: "group", wreck: func(t *testing.T, p *patient) { p.exec(t, "CREATE ROLE %s", provision.Group) }},
		{name: "account of another admin", since: 16, check: "account", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "CREATE ROLE %s", provision.Group)
			p.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", provision.Group, doctorAdmin)
			p.exec(t, "CREATE ROLE %s IN ROLE %s", doctorUser, provision.Group)
		}},
		{name: "no CONNECT for the admin", check: "connect", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "GRANT CONNECT ON DATABASE %s TO %s", p.db, doctorRole)
			p.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", p.db)
			p.exec(t, "REVOKE %s FROM %s", doctorRole, doctorAdmin)
			p.Handouts[0].Roles = nil
			p.exec(t, "CREATE ROLE %s", provision.Group)
			p.exec(t, "GRANT CONNECT ON DATABASE %s TO %s", p.db, provision.Group)
			if p.pg.Version >= 16 { // and not by way of the group
				p.exec(t, "GRANT %s TO %s WITH ADMIN OPTION, INHERIT FALSE", provision.Group, doctorAdmin)
			}
		}},
		{name: "no CONNECT for the roles", check: "connect", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "GRANT CONNECT ON DATABASE %s TO %s", p.db, doctorAdmin)
			p.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", p.db)
		}},
		{name: "no CONNECT for a role that does not exist", check: "db_role connect", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "GRANT CONNECT ON DATABASE %s TO %s", p.db, doctorAdmin)
			p.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", p.db)
			p.Handouts[0].Roles = []string{"connect_missing"}
			p.forget(t, "connect_missing")
		}},
		{name: "no CONNECT anywhere", check: "login", wreck: func(t *testing.T, p *patient) {
			for _, db := range []string{p.db, "postgres", "template1"} {
				p.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", db)
				p.exec(t, "GRANT CONNECT ON DATABASE %s TO %s", db, doctorRole)
				p.later(t, "GRANT CONNECT ON DATABASE %s TO PUBLIC", db)
			}
			p.exec(t, "REVOKE %s FROM %s", doctorRole, doctorAdmin)
			if p.pg.Version >= 16 {
				p.exec(t, "GRANT %s TO %s WITH ADMIN OPTION, INHERIT FALSE", doctorRole, doctorAdmin)
			}
		}},
		{name: "no CONNECT on the default database", check: "connect", wreck: func(t *testing.T, p *patient) {
			p.DefaultDatabase, p.Handouts[0].Databases = p.db, []string{"postgres"}
			p.exec(t, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC", p.db)
		}},
		{name: "unmanaged namesake", check: "namesake", wreck: func(t *testing.T, p *patient) { p.exec(t, "CREATE ROLE %s LOGIN", doctorUser) }},
		{name: "no ADMIN OPTION on rds_iam", check: "rds_iam", wreck: func(t *testing.T, p *patient) {
			p.IAM = true
			p.exec(t, "CREATE ROLE %s", rdsRole)
			p.forget(t, rdsRole)
		}},
		{name: "no grant options", check: "db_permissions", wreck: func(t *testing.T, p *patient) {
			p.give("SELECT", "INSERT", "EXECUTE", "USAGE")
			p.makeObjects(t)
		}},
		{name: "no grant options, and sessions begin all the same", check: "db_permissions", wreck: func(t *testing.T, p *patient) {
			p.give("SELECT", "EXECUTE", "USAGE")
			p.Handouts[0].WarnMissing = true
			p.makeObjects(t)
			p.execIn(t, p.db, "GRANT USAGE ON SCHEMA %s TO PUBLIC", hostileSchema)
		}},
		{name: "grant options on some", check: "db_permissions", wreck: func(t *testing.T, p *patient) {
			p.give("SELECT")
			p.makeObjects(t)
			p.Handouts = append(p.Handouts, provision.Handout{Users: []string{"other"}, Databases: []string{"*"}, Permissions: p.Handouts[0].Permissions})
			p.execIn(t, p.db, "GRANT USAGE ON SCHEMA %s TO %s WITH GRANT OPTION", hostileSchema, doctorAdmin)
			p.execIn(t, p.db, "GRANT SELECT ON ALL TABLES IN SCHEMA %s TO %s", hostileSchema, doctorAdmin)
			p.execIn(t, p.db, "GRANT SELECT ON %s.t1 TO %s WITH GRANT OPTION", hostileSchema, doctorAdmin)
		}},
		{name: "bundle of another admin", since: 16, check: "bundle", wreck: func(t *testing.T, p *patient) {
			bundle := provision.PlacePrefix(p.Scope, doctorAdmin, p.db) + "0123"
			p.forget(t, bundle, provision.BundleGroup)
			p.exec(t, "CREATE ROLE %s", provision.BundleGroup)
			p.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", provision.BundleGroup, doctorAdmin)
			p.exec(t, "CREATE ROLE %s IN ROLE %s", bundle, provision.BundleGroup)
		}},
		{name: "no inheritor", check: "inheritor", wreck: func(t *testing.T, p *patient) {
			p.Handouts[0].Reassign = true
			p.forget(t, provision.Inheritor)
		}},
		{name: "an inheritor that is a person's", check: "inheritor", wreck: func(t *testing.T, p *patient) {
			p.Handouts[0].Reassign = true
			p.forget(t, provision.Inheritor)
			p.forget(t, provision.BundleGroup)
			p.exec(t, "CREATE ROLE %s", provision.BundleGroup)
			p.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", provision.BundleGroup, doctorAdmin)
			p.exec(t, "CREATE ROLE %s LOGIN SUPERUSER IN ROLE %s", provision.Inheritor, provision.BundleGroup)
		}},
		{name: "no ADMIN OPTION on the inheritor", since: 16, check: "inheritor", wreck: func(t *testing.T, p *patient) {
			p.Handouts[0].Reassign = true
			p.forget(t, provision.Inheritor)
			p.exec(t, "CREATE ROLE %s", provision.Inheritor)
		}},
		{name: "read-only server", check: "read_only", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
			p.exec(t, "SELECT pg_reload_conf()")
			p.awaitReadOnly(t, "on")
			p.later(t, "ALTER SYSTEM RESET default_transaction_read_only")
		}},
		{name: "read-only database", check: "read_only", wreck: func(t *testing.T, p *patient) {
			p.exec(t, "ALTER DATABASE %s SET default_transaction_read_only = on", p.db)
		}},
	}
}

// hostileSchema is a schema that the doctor has to name on one line.
const hostileSchema = "my \n\"schema\"; --"

// give has policy give permissions on every object.
func (p *patient) give(permissions ...string) {
	p.Handouts[0].Permissions = func(objects []access.Object) (out access.ObjectPermissions) {
		for _, o := range objects {
			out.Objects = append(out.Objects, access.ObjectPermission{Object: o, Permissions: permissions})
			if o.Kind == resource.ObjectTable {
				out.Objects[len(out.Objects)-1].Permissions = slices.DeleteFunc(slices.Clone(permissions), func(p string) bool { return p == "EXECUTE" || p == "USAGE" })
			}
		}
		return out
	}
}

// makeObjects makes objects on which the admin has no rights.
func (p *patient) makeObjects(t *testing.T) {
	t.Helper()
	p.execIn(t, p.db, "CREATE SCHEMA %s", hostileSchema)
	for i := range 12 {
		p.execIn(t, p.db, "CREATE TABLE %s.%s (n int)", hostileSchema, fmt.Sprint("t", i))
	}
	for _, sql := range []string{
		"CREATE TABLE public.%s (n serial)", "CREATE VIEW public.%s AS SELECT 1", "CREATE MATERIALIZED VIEW public.%s AS SELECT 1",
		"CREATE FUNCTION public.%s(text[], int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE PROCEDURE public.%s() LANGUAGE sql AS 'SELECT 1'",
	} {
		p.execIn(t, p.db, sql, "an\tod\"d "+sql[:10])
	}
	p.execIn(t, p.db, "REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA public FROM PUBLIC")
}

func (c broken) run(t *testing.T, p *patient) {
	c.wreck(t, p)
	findings := p.doctor(t)
	if diff := gocmp.Diff(c.check, checks(findings)); diff != "" {
		t.Fatalf("findings (-want +got):\n%s\n%+v", diff, findings)
	}
	for more := c.more; len(findings) > 0; more-- {
		p.repair(t, findings)
		if slices.ContainsFunc(findings, func(f provision.Finding) bool { return slices.Contains(f.SQL, "SELECT pg_catalog.pg_reload_conf();") }) {
			p.awaitReadOnly(t, "off")
		}
		if findings = p.doctor(t); len(findings) > 0 && more == 0 {
			t.Fatalf("after the repair: %+v", findings)
		}
	}
}

// newPatient makes a healthy server with one user of policy.
func newPatient(t *testing.T, pg *pgtest.Server) *patient {
	t.Helper()
	p := &patient{pg: pg, db: pg.Database(t)}
	hostile := p.db + `; "x"`
	p.exec(t, "ALTER DATABASE %s RENAME TO %s", p.db, hostile)
	p.db = hostile
	p.Checkup = &provision.Checkup{
		AdminName: doctorAdmin,
		Handouts:  []provision.Handout{{Users: []string{doctorUser}, Roles: []string{doctorRole}, Databases: []string{p.db}}},
		Connect: func(ctx context.Context, database string) (*pgconn.PgConn, error) {
			cfg := pg.Config(t, doctorAdmin, database)
			cfg.Host = pg.Host
			return pgconn.ConnectConfig(ctx, &cfg.Config)
		},
	}
	p.forget(t, doctorAdmin, doctorRole, provision.Group, doctorUser)
	p.later(t, "DROP DATABASE %s", p.db)
	p.exec(t, "CREATE ROLE %s LOGIN CREATEROLE", doctorAdmin)
	p.exec(t, "CREATE ROLE %s", doctorRole)
	if pg.Version >= 16 {
		p.exec(t, "GRANT %s TO %s WITH ADMIN OPTION", doctorRole, doctorAdmin)
	}
	if findings := p.doctor(t); len(findings) != 0 {
		t.Fatalf("before anything is broken: %+v", findings)
	}
	return p
}

func (p *patient) doctor(t *testing.T) []provision.Finding {
	t.Helper()
	findings, err := provision.Doctor(t.Context(), *p.Checkup)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// repair runs what the doctor printed, as a person does with psql.
func (p *patient) repair(t *testing.T, findings []provision.Finding) {
	t.Helper()
	for _, f := range findings {
		if len(f.SQL) == 0 || f.Breaks == "" {
			t.Errorf("the finding repairs nothing: %+v", f)
		}
		for _, sql := range f.SQL {
			if strings.ContainsAny(sql, "\n\x1b") || !strings.HasSuffix(sql, ";") {
				t.Errorf("not a line of SQL: %q", sql)
			}
			p.execIn(t, cmp.Or(f.Database, "postgres"), strings.ReplaceAll(sql, "%", "%%"))
		}
	}
}

// checks are what the findings are about.
func checks(findings []provision.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Check)
	}
	return strings.Join(all, " ")
}

// exec runs a statement as superuser; the arguments are quoted as identifiers.
func (p *patient) exec(t *testing.T, format string, names ...string) {
	t.Helper()
	p.execIn(t, "postgres", format, names...)
}

// execIn is exec in a logical database.
func (p *patient) execIn(t *testing.T, database, format string, names ...string) {
	t.Helper()
	w := &world{dba: p.pg.Superuser(t, database)}
	w.exec(t, format, names...)
}

// later runs a statement when the test has ended; the last one first.
func (p *patient) later(t *testing.T, format string, names ...string) {
	t.Cleanup(func() {
		quoted := make([]any, len(names))
		for i := range names {
			quoted[i] = q(names[i])
		}
		(&world{pg: p.pg}).execCleanup(t, fmt.Sprintf(format, quoted...))
	})
}

// forget removes roles when the test has ended, with what they were granted.
func (p *patient) forget(t *testing.T, roles ...string) {
	t.Cleanup(func() {
		for _, role := range roles {
			if p.has(t, role) {
				(&world{pg: p.pg}).execCleanup(t, "DROP OWNED BY "+q(role)+"; DROP ROLE "+q(role))
			}
		}
	})
}

func (p *patient) has(t *testing.T, role string) (there bool) {
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.ConnectConfig(ctx, p.pg.Config(t, "postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}

func (p *patient) awaitReadOnly(t *testing.T, want string) {
	t.Helper()
	eventually(t, "the server has read its configuration", func() bool {
		var got string
		err := p.pg.Superuser(t, "postgres").QueryRow(t.Context(), "SHOW default_transaction_read_only").Scan(&got)
		return err == nil && got == want
	})
}

// TestDoctorWithoutSQL: where only people can decide.
func TestDoctorWithoutSQL(t *testing.T) {
	t.Parallel()
	pg := pgtest.Shared(t, 15)
	p := newPatient(t, pg)
	p.exec(t, "CREATE ROLE powerful SUPERUSER")
	p.forget(t, "powerful")
	for _, c := range []struct {
		name  string
		wreck func(*provision.Checkup)
		want  provision.Finding // Check, and what Problem and Advice contain
	}{
		{"no such default database", func(c *provision.Checkup) { c.DefaultDatabase = "nowhere" }, provision.Finding{Check: "database", Problem: `"nowhere"`, Advice: "default_database"}},
		{"the namesake is powerful", func(c *provision.Checkup) { c.Handouts[0].Users = []string{"powerful"} }, provision.Finding{Check: "namesake", Problem: `"powerful"`, Advice: "rename"}},
		{"the namesake is the admin", func(c *provision.Checkup) { c.Handouts[0].Users = []string{doctorAdmin} }, provision.Finding{Check: "namesake", Problem: "admin user", Advice: "rename"}},
		{"a superuser is handed out", func(c *provision.Checkup) { c.Handouts[0].Roles = []string{"powerful"} }, provision.Finding{Check: "db_role", Problem: `"powerful"`, Advice: "db_roles"}},
		{"rds without rds_iam", func(c *provision.Checkup) { c.IAM = true }, provision.Finding{Check: "rds_iam", Problem: "does not exist", Advice: "aws"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkup := *p.Checkup
			checkup.Handouts = []provision.Handout{checkup.Handouts[0]}
			c.wreck(&checkup)
			findings, err := provision.Doctor(t.Context(), checkup)
			if err != nil || len(findings) != 1 {
				t.Fatalf("%v, %+v", err, findings)
			}
			f := findings[0]
			if f.Severity != provision.SeverityError || f.Check != c.want.Check || len(f.SQL) != 0 ||
				!strings.Contains(f.Problem, c.want.Problem) || !strings.Contains(f.Advice, c.want.Advice) {
				t.Errorf("got %+v", f)
			}
		})
	}
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := provision.Doctor(ctx, *p.Checkup); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
