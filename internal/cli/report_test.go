package cli

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
)

// TestReports: what is found is laid out for people, and what is to be run is SQL
// and nothing else. Text from elsewhere never commands the terminal.
func TestReports(t *testing.T) {
	t.Parallel()
	const group = `CREATE ROLE "teleport-auto-user" NOLOGIN;`
	findings := []api.Finding{
		{Severity: api.SeverityError, Check: "namesake", Problem: "role \x1b[31m exists", Breaks: "al is refused", SQL: []string{group, `GRANT "g" TO "al";`}, Advice: "rename"},
		{Severity: api.SeverityError, Check: "namesake", Problem: "role bo exists", Breaks: "bo is refused", SQL: []string{group, `GRANT "g" TO "bo";`}},
		{Severity: "warning", Check: "login", Problem: "no line", HBA: []string{"hostssl all all ::/0 cert", "hostssl all all 0.0.0.0/0 cert"}},
		{Severity: "advice", Check: "superuser", Problem: `the admin user "a" is a superuser`, Advice: "use one\nof its own"},
	}
	deviations := func() []api.Deviation { // writeDriftSQL sorts them
		return []api.Deviation{
			{
				Role: "al", Check: "direct", Problem: "was granted rights", Matters: "it has them", Repair: "an agent", Database: "my ",
				SQL: []string{`REVOKE SELECT ON t1 FROM "al";`, `REVOKE SELECT ON t2 FROM "al";`},
			},
			{Role: "al", Check: "direct", Problem: "odd\x1b[31m", Matters: "much"},
			{Role: "bo", Check: "orphan", Problem: "belongs to no user", Matters: "clutter", SQL: []string{`DROP ROLE "bo";`}},
		}
	}
	for name, test := range map[string]struct {
		write     func(*App) error
		out, talk string
	}{
		"findings": {write: func(a *App) error { return a.writeFindings("example", findings) }, out: `error: role �[31m exists
  breaks: al is refused
  sql:    CREATE ROLE "teleport-auto-user" NOLOGIN;
          GRANT "g" TO "al";
  advice: rename

error: role bo exists
  breaks: bo is refused
  sql:    CREATE ROLE "teleport-auto-user" NOLOGIN;
          GRANT "g" TO "bo";

warning: no line
  pg_hba: hostssl all all ::/0 cert
          hostssl all all 0.0.0.0/0 cert

advice: the admin user "a" is a superuser
  advice: use one
          of its own

example: errors: 2, warnings: 1, advice: 1
`},
		"repairs": {write: func(a *App) error { return a.writeRepairs(findings) }, out: `CREATE ROLE "teleport-auto-user" NOLOGIN;
GRANT "g" TO "al";
GRANT "g" TO "bo";
`, talk: "postern: warning: findings that SQL does not repair: 2; see them without --sql\n"},
		"drift": {write: func(a *App) error { return a.writeDrift("example", deviations()) }, out: `al: was granted rights
  matters: it has them
  repair:  an agent
  sql:     -- in database "my "
           REVOKE SELECT ON t1 FROM "al";
           REVOKE SELECT ON t2 FROM "al";

al: odd�[31m
  matters: much

bo: belongs to no user
  matters: clutter
  sql:     DROP ROLE "bo";

example: deviations: 3
`},
		"drift as SQL": {write: func(a *App) error { return a.writeDriftSQL(deviations()) }, out: `DROP ROLE "bo";
\connect "my "
REVOKE SELECT ON t1 FROM "al";
REVOKE SELECT ON t2 FROM "al";
`, talk: "postern: warning: deviations that SQL does not repair: 1; see them without --sql\n"},
		"plan": {write: func(a *App) error {
			return a.writePlan(api.PlanDatabaseResponse{
				Mode: "keep", DatabaseName: "shop", DatabaseUser: "al", DatabaseRoles: []string{"reader"}, Bundle: "postern-bundle-1",
				Steps:   []api.PlanStep{{SQL: `CREATE ROLE "al"`, Why: "it does not\x1bexist"}, {SQL: `GRANT "reader" TO "al"`, Why: "db_roles: role readers"}},
				Missing: "SELECT on t1", MissingHint: "run as superuser: GRANT SELECT",
			})
		}, out: `database user: al (does not exist yet)
database name: shop
provisioning:  keep
db roles:      reader
bundle:        postern-bundle-1

-- it does not�exist
CREATE ROLE "al";
-- db_roles: role readers
GRANT "reader" TO "al";

the session would lack: SELECT on t1
  run as superuser: GRANT SELECT
`},
		"plan of nothing": {write: func(a *App) error {
			return a.writePlan(api.PlanDatabaseResponse{Mode: "keep", DatabaseName: "shop", DatabaseUser: "al", Exists: true, Sessions: 2})
		}, out: `database user: al (2 sessions)
database name: shop
provisioning:  keep
db roles:      (none)
bundle:        (none)

nothing is to be done
`},
		"event": {write: func(a *App) error {
			return a.writeEvent([]byte(`{"ei":1,"event":"db.session.query","code":"TDB02I","time":"2026-11-22T10:00:01Z","user":"alice","db_service":"example","db_query":"select 1;\n\u001b[2Jselect 2"}`), formatText)
		}, out: "2026-11-22T10:00:01Z TDB02I db.session.query user=alice db=example query=\"select 1; �[2Jselect 2\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, talk bytes.Buffer
			if err := test.write(newApp(programName, IO{Out: &out, Err: &talk})); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.out, out.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.talk, talk.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
