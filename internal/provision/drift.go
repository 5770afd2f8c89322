package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// Entitlement is the most that policy gives one user on a server.
type Entitlement struct {
	User        string
	Roles       []string
	Policies    []string // keys of bundles, see [BundleWant]
	Replication bool
}

// Survey is what policy says about a server.
type Survey struct {
	Entitlements []Entitlement // of every user there is, also of those who get nothing
	Bundles      []BundleWant  // one for each key; Database is not looked at
}

// Deviation is a difference between a managed role and policy.
type Deviation struct {
	Role     string // a database user, or a bundle
	Check    string // short and stable name of what was looked at
	Problem  string // what is the case
	Matters  string // what that means
	Repair   string // what repairs it without anybody's doing; empty: nothing does
	Database string // logical database in which to run SQL; empty: any
	SQL      []string
}

// Drift looks for managed accounts and bundles that differ from policy, and changes
// nothing. An account that another agent is just setting up can look as if it were
// left over. Errors are those of [Server.Preview].
func (s *Server) Drift(ctx context.Context, survey Survey) ([]Deviation, error) {
	have, err := s.observeAll(ctx)
	if err != nil {
		return nil, err
	}
	if have.Recovery {
		return nil, readOnlyFault(nil)
	}
	var all []Deviation
	for _, acc := range have.Accounts {
		all = append(all, s.driftOfAccount(have.of(acc), survey)...)
	}
	for _, user := range have.Passwords {
		all = append(all, Deviation{
			Role: user, Check: "password", Problem: "has a password, which somebody set",
			Matters: "while the database user can log in, whoever knows it gets in past the gateway, where pg_hba.conf takes passwords",
			Repair:  "the end of its last session, or the next connect",
			SQL:     []string{"ALTER ROLE " + quote(user) + " PASSWORD NULL;"},
		})
	}
	for _, d := range have.Direct {
		all = append(all, s.driftOfDirect(ctx, d)...)
	}
	return append(all, s.driftOfBundles(ctx, have, survey)...), ctx.Err()
}

// observation is what the catalogs say about all managed roles of a server.
type observation struct {
	state
	Accounts  []account     `json:"accounts"`
	Passwords []string      `json:"passwords"` // accounts with one; seen by superusers only
	Direct    []direct      `json:"direct"`
	Bundles   []knownBundle `json:"bundles"`
	Databases []string      `json:"databases"` // that take connections
}

// of returns the state of one account.
func (o *observation) of(acc account) state {
	one := o.state
	one.Account = acc
	return one
}

// knownBundle is a member of [BundleGroup].
type knownBundle struct {
	unusedBundle
	Users int `json:"users"` // that hold it
}

// allSQL reads an [observation].
func (d dialect) allSQL() string {
	return contextCTE + `, acc AS (
  SELECT ` + accountColumns + ` FROM pg_catalog.pg_roles r WHERE r.rolname <> CURRENT_USER AND COALESCE(
    (SELECT pg_catalog.bool_and(NOT m.admin_option) FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid AND m.roleid = ` + groupOID + `), false)
), held AS (` + d.heldSelect() + `)
SELECT pg_catalog.json_build_object(
  ` + contextMembers() + `,
  'accounts', (SELECT pg_catalog.json_agg(` + d.accountObject() + ` ORDER BY acc.rolname) FROM acc),
  'direct', (` + directSQL + `),
  'bundles', (` + bundlesSQL("'users', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_auth_members u WHERE u.roleid = r.oid AND NOT u.admin_option)") + `),
  'databases', (SELECT pg_catalog.json_agg(datname ORDER BY datname) FROM pg_catalog.pg_database WHERE datallowconn))`
}

// passwordsSQL lists the managed accounts with a password. pg_authid is for superusers.
const passwordsSQL = `
SELECT COALESCE(pg_catalog.json_agg(a.rolname ORDER BY a.rolname), '[]') FROM pg_catalog.pg_authid a
WHERE a.rolpassword IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
  WHERE m.member = a.oid AND g.rolname = '` + Group + `' AND NOT m.admin_option) AND a.rolname <> CURRENT_USER`

func (s *Server) observeAll(ctx context.Context) (have observation, err error) {
	err = s.withConn(ctx, s.sweepDatabase(), func(conn *pgconn.PgConn) error {
		have = observation{}
		d, err := dialectOf(conn)
		if err != nil {
			return err
		}
		r := conn.ExecParams(ctx, d.allSQL(), nil, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("look at the managed roles: %w", r.Err)
		}
		if err := decodeJSON(r, &have); err != nil || !have.Admin.Superuser {
			return err
		}
		r = conn.ExecParams(ctx, passwordsSQL, nil, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("look for passwords: %w", r.Err)
		}
		return decodeJSON(r, &have.Passwords)
	})
	return have, err
}

// driftOfDirect says what an account was granted directly in one logical database.
func (s *Server) driftOfDirect(ctx context.Context, d direct) []Deviation {
	found := Deviation{
		Role: d.User, Check: "direct", Database: d.Database,
		Problem: fmt.Sprintf("was granted rights directly in database %q", d.Database),
		Matters: "it has them in every session there, whatever policy says",
	}
	var possible, stuck []change
	var strays []string
	err := s.withConn(ctx, d.Database, func(conn *pgconn.PgConn) (err error) {
		possible, stuck, err = directChanges(ctx, conn, d.User)
		if err != nil {
			return err
		}
		var b batch
		b.params(straysSQL, [][]byte{[]byte(d.User)}, func(r *pgconn.Result) error { return decodeJSON(r, &strays) })
		return b.run(ctx, conn)
	})
	if err != nil {
		found.Problem += "; the admin user cannot look at them"
		return []Deviation{found}
	}
	var all []Deviation
	if len(possible) > 0 {
		mine := found
		mine.SQL = s.byEither(bundleStatements(d.User, possible))
		mine.Repair = "the background work of an agent, within its sweep interval, unless a role granted them that the admin user may not act for"
		all = append(all, mine)
	}
	if len(stuck) > 0 {
		theirs := found
		theirs.SQL = withSemicolons(bundleStatements(d.User, stuck))
		all = append(all, theirs)
	}
	strays = slices.DeleteFunc(strays, func(what string) bool { return what == strayElsewhere })
	if len(strays) > 0 {
		odd := found
		odd.Problem += ": on " + strings.Join(strays, ", ") + ". Revoke them by hand, as the role that granted them"
		all = append(all, odd)
	}
	return all
}

// byEither returns statements for a superuser that first runs them as the admin, and then what they
// take away as the owner of the objects, as superusers do: PostgreSQL ends only what the same
// role has granted.
func (s *Server) byEither(sql []string) []string {
	statements := []string{"SET ROLE " + quote(s.cfg.AdminName) + ";"}
	statements = append(statements, withSemicolons(sql)...)
	statements = append(statements, "RESET ROLE;")
	return append(statements, withSemicolons(slices.DeleteFunc(slices.Clone(sql), func(one string) bool { return !strings.HasPrefix(one, "REVOKE ") }))...)
}

func withSemicolons(sql []string) []string {
	out := make([]string, len(sql))
	for i := range sql {
		out[i] = sql[i] + ";"
	}
	return out
}

// driftOfBundles compares the bundles that somebody holds with policy, and looks for those
// that nobody has held for so long that they should be gone.
func (s *Server) driftOfBundles(ctx context.Context, have observation, survey Survey) []Deviation {
	expected := map[string]BundleWant{}
	for _, database := range have.Databases {
		for _, want := range survey.Bundles {
			want.Database = database
			expected[bundleName(s.place(database), want.Key)] = want
		}
	}
	var all []Deviation
	for _, b := range have.Bundles {
		want, made := expected[b.Name]
		switch {
		case b.Users > 0 && made:
			all = append(all, s.driftOfBundle(ctx, b.Name, want)...)
		case b.Users == 0 && !s.bundles.known(b.Name) && b.Now.Sub(lastUsed(b.Comment)) > s.cfg.BundleUnused+orphanGrace:
			all = append(all, s.orphan(ctx, b.unusedBundle)...)
		}
	}
	return all
}

// orphanGrace is how long after its time an unused bundle may still be there: the sweep
// has not come to it yet.
const orphanGrace = 5 * time.Minute

// driftOfBundle compares a bundle with policy.
func (s *Server) driftOfBundle(ctx context.Context, name string, want BundleWant) []Deviation {
	const matters = "everybody who holds the bundle can do more or less than policy says"
	c := &convergence{s: s, name: name, comment: describeBundle(want.Database, want.Roles), permissions: want.Policy().Permissions}
	var steps []Step
	err := s.withConn(ctx, want.Database, func(conn *pgconn.PgConn) (err error) {
		steps, err = c.preview(ctx, conn, Origins{})
		return err
	})
	if err != nil {
		f := fault.Of(err)
		return []Deviation{{Role: name, Check: "bundle", Database: want.Database, Problem: f.Text, Matters: matters, Repair: f.Hint}}
	}
	var all []Deviation
	for _, step := range steps {
		if !isComment(step.SQL) {
			all = append(all, Deviation{
				Role: name, Check: "bundle", Database: want.Database, Problem: "differs from policy: " + step.Why, Matters: matters,
				Repair: "an agent with sessions that use it, within seconds, or the next session that does", SQL: s.byEither([]string{step.SQL}),
			})
		}
	}
	if len(c.missing) > 0 {
		all = append(all, Deviation{
			Role: name, Check: "bundle", Database: want.Database, Problem: s.missingFault(c.missing).Text,
			Matters: "sessions are refused, or with on_missing_grant: warn have less than policy says", SQL: []string{repairSQL(c.missing, s.cfg.AdminName)},
		})
	}
	return all
}

// orphan says that a bundle should have been dropped, and how.
func (s *Server) orphan(ctx context.Context, b unusedBundle) []Deviation {
	found := Deviation{
		Role: b.Name, Check: "orphan", Problem: "nobody holds this bundle, and it was not dropped",
		Matters: "it gives nobody anything; its grants make catalogs bigger",
	}
	if at := lastUsed(b.Comment); !at.IsZero() {
		found.Problem += "; last used " + at.Format(time.RFC3339)
	}
	var all []Deviation
	for _, database := range b.Databases {
		c := &convergence{s: s, name: b.Name, drop: true}
		emptied := found
		emptied.Database = database
		err := s.withConn(ctx, database, func(conn *pgconn.PgConn) error {
			steps, err := c.preview(ctx, conn, Origins{})
			emptied.SQL = s.byEither(slices.DeleteFunc(sqlOf(steps), isComment))
			return err
		})
		if err != nil {
			emptied.Problem += ": " + fault.Of(err).Text
		}
		all = append(all, emptied)
	}
	if len(all) == 0 {
		all = append(all, found)
	}
	last := &all[len(all)-1]
	last.SQL = append(last.SQL, "DROP ROLE "+quote(b.Name)+";")
	return all
}
