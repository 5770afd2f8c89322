package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// directSQL lists the managed accounts that ACLs in logical databases name: another
// tool granted to them, or somebody by hand. We never do. CONNECT on a database is
// not ours to judge.
const directSQL = `
SELECT COALESCE(pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_object('user', u.rolname, 'database', db.datname)), '[]')
FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles g ON g.oid = m.roleid AND g.rolname = '` + Group + `'
JOIN pg_catalog.pg_roles u ON u.oid = m.member
JOIN pg_catalog.pg_shdepend d ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = u.oid AND d.deptype = 'a'
JOIN pg_catalog.pg_database db ON db.oid = d.dbid AND db.datallowconn
WHERE NOT m.admin_option AND u.rolname <> CURRENT_USER AND NOT pg_catalog.pg_is_in_recovery()`

// direct is a managed account that was granted something directly in a logical database.
type direct struct {
	User     string `json:"user"`
	Database string `json:"database"`
}

// removeDirect takes away what managed accounts were granted directly on objects:
// policy is the only source of rights.
func (s *Server) removeDirect(ctx context.Context) {
	var found []direct
	err := s.withConn(ctx, s.sweepDatabase(), func(conn *pgconn.PgConn) error {
		r := conn.ExecParams(ctx, directSQL, nil, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("look for direct grants: %w", r.Err)
		}
		found = nil
		return decodeJSON(r, &found)
	})
	if err != nil {
		s.log.Debug("direct grants not looked for", "error", fault.Chain(err))
		return
	}
	for _, d := range found {
		if s.frozen() != nil {
			return
		}
		begin := time.Now()
		var done []string
		err := s.withConn(ctx, d.Database, func(conn *pgconn.PgConn) (err error) {
			done, err = revokeDirect(ctx, conn, d.User)
			return err
		})
		if ctx.Err() != nil || err == nil && len(done) == 0 {
			continue
		}
		if err != nil && !s.backlog.news("direct "+d.Database+" "+d.User, err) {
			continue
		}
		if err != nil {
			s.log.Warn("direct grants not removed", "database_user", d.User, "db_name", d.Database, "error", fault.Chain(err))
		} else {
			s.log.Warn("direct grants removed", "database_user", d.User, "db_name", d.Database, "statements", done)
		}
		if s.cfg.BundleChanged != nil {
			s.cfg.BundleChanged(BundleChange{
				User: d.User, Database: d.Database, Err: err,
				Result: BundleResult{Changed: err == nil, Statements: len(done), Duration: time.Since(begin)},
			})
		}
	}
}

// directChanges returns what is to be revoked from an account in the database of the connection, and
// what of that the admin may not.
func directChanges(ctx context.Context, conn *pgconn.PgConn, user string) (possible, stuck []change, err error) {
	var have bundleState
	var fingerprint string
	var b batch
	b.bundle(user, &have, &fingerprint)
	if err := b.run(ctx, conn); err != nil {
		return nil, nil, err
	}
	changes := slices.DeleteFunc(planBundle(have.objects, &rights{}), func(c change) bool { return c.object.class == classDatabase })
	reaches := map[objectID]reach{}
	b = batch{}
	b.reach(changes, reaches)
	if err := b.run(ctx, conn); err != nil {
		return nil, nil, err
	}
	possible, _, stuck = split(changes, reaches, closedSchemas(have.objects))
	return possible, stuck, nil
}

// revokeDirect revokes what a role has on objects, in one transaction.
func revokeDirect(ctx context.Context, conn *pgconn.PgConn, user string) (done []string, err error) {
	possible, stuck, err := directChanges(ctx, conn, user)
	if err != nil {
		return nil, err
	}
	var b batch // one batch is one transaction
	done = bundleStatements(user, possible)
	for _, sql := range done {
		b.exec(sql, nil)
	}
	var have bundleState
	var fingerprint string
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
