package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// directSQL lists the managed accounts that ACLs of the current database name:
// another tool granted to them, or somebody by hand. We never do.
const directSQL = `
SELECT COALESCE(pg_catalog.json_agg(DISTINCT u.rolname), '[]')
FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles g ON g.oid = m.roleid AND g.rolname = '` + Group + `'
JOIN pg_catalog.pg_roles u ON u.oid = m.member
JOIN pg_catalog.pg_shdepend d ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = u.oid AND d.deptype = 'a'
JOIN pg_catalog.pg_database db ON db.oid = d.dbid AND db.datname = pg_catalog.current_database()
WHERE NOT m.admin_option AND u.rolname <> CURRENT_USER AND NOT pg_catalog.pg_is_in_recovery()
  AND d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_namespace'::pg_catalog.regclass)`

// removeDirect takes away what managed accounts were granted directly on objects
// of a logical database: policy is the only source of rights. CONNECT on the
// database is not ours to judge.
func (s *Server) removeDirect(ctx context.Context, database string) {
	var users []string
	err := s.withConn(ctx, database, func(conn *pgconn.PgConn) error {
		r := conn.ExecParams(ctx, directSQL, nil, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("look for direct grants: %w", r.Err)
		}
		users = nil
		return decodeJSON(r, &users)
	})
	if err != nil {
		s.log.Debug("direct grants not looked for", "db_name", database, "error", fault.Chain(err))
		return
	}
	for _, user := range users {
		begin := time.Now()
		var done []string
		err := s.withConn(ctx, database, func(conn *pgconn.PgConn) (err error) {
			done, err = revokeDirect(ctx, conn, user)
			return err
		})
		if ctx.Err() != nil || err == nil && len(done) == 0 {
			continue
		}
		if err != nil && !s.backlog.news("direct "+database+" "+user, err) {
			continue
		}
		if err != nil {
			s.log.Warn("direct grants not removed", "database_user", user, "db_name", database, "error", fault.Chain(err))
		} else {
			s.log.Warn("direct grants removed", "database_user", user, "db_name", database, "statements", done)
		}
		if s.cfg.BundleChanged != nil {
			s.cfg.BundleChanged(BundleChange{
				User: user, Database: database, Err: err,
				Result: BundleResult{Changed: err == nil, Statements: len(done), Duration: time.Since(begin)},
			})
		}
	}
}

// revokeDirect revokes what a role has on objects, in one transaction.
func revokeDirect(ctx context.Context, conn *pgconn.PgConn, user string) (done []string, err error) {
	var have bundleState
	var fingerprint string
	var b batch
	b.bundle(user, &have, &fingerprint)
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	changes := slices.DeleteFunc(planBundle(have.objects, &rights{}), func(c change) bool { return c.object.class == classDatabase })
	reaches := map[objectID]reach{}
	b = batch{}
	b.reach(changes, reaches)
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	possible, _, stuck := split(changes, reaches, closedSchemas(have.objects))
	done = bundleStatements(user, possible)
	b = batch{} // one batch is one transaction
	for _, sql := range done {
		b.exec(sql, nil)
	}
	b.bundle(user, &have, &fingerprint)
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	if len(stuck) > 0 || slices.ContainsFunc(have.objects, func(o bundleObject) bool { return o.held != 0 && o.class != classDatabase }) {
		return done, refusal(fault.Conflict, codeInsufficientRights, fmt.Sprintf("user %q was granted rights directly that the admin user may not revoke", user)).
			WithHint("revoke them in database " + quote(have.Database) + ", as the role that granted them")
	}
	return done, nil
}

// directDue returns the logical databases of followed bundles in which direct
// grants are to be looked for now, and notes that they are.
func (b *bundles) directDue(followed []*bundleEntry, every time.Duration) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []string
	for _, e := range followed {
		if last, ok := b.looked[e.database]; !ok || time.Since(last) >= every {
			b.looked[e.database] = time.Now()
			due = append(due, e.database)
		}
	}
	return due
}
