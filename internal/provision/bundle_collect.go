package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// bundlesSQL lists the bundles with the logical databases in which they have privileges; more
// are further members of the object.
func bundlesSQL(more ...string) string {
	return `
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
  'name', r.rolname, 'comment', COALESCE(pg_catalog.shobj_description(r.oid, 'pg_authid'), ''), 'now', pg_catalog.clock_timestamp(),
  'databases', (SELECT pg_catalog.json_agg(DISTINCT d.datname) FROM pg_catalog.pg_shdepend s
    JOIN pg_catalog.pg_database d ON d.oid = CASE WHEN s.dbid = 0 THEN s.objid ELSE s.dbid END
    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid
      AND (s.dbid <> 0 OR s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass))` + strings.Join(append([]string{""}, more...), ", ") + `)), '[]')
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles r ON r.oid = m.member
WHERE g.rolname = '` + BundleGroup + `' AND NOT m.admin_option AND pg_catalog.starts_with(r.rolname, '` + bundlePrefix + `')`
}

// unusedSQL lists those that no database user holds and that the admin may drop.
func unusedSQL() string {
	return contextCTE + bundlesSQL() + `
  AND NOT pg_catalog.pg_is_in_recovery()
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members u WHERE u.roleid = r.oid AND NOT u.admin_option)
  AND (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000 OR ` + adminOf("r.oid") + `)`
}

// unusedBundle is a bundle that nobody holds.
type unusedBundle struct {
	Name      string    `json:"name"`
	Comment   string    `json:"comment"`
	Now       time.Time `json:"now"`
	Databases []string  `json:"databases"`
}

// collect drops the bundles that have not been used for a while, and says what failed.
func (s *Server) collect(ctx context.Context) {
	database := s.sweepDatabase()
	var found []unusedBundle
	err := s.withConn(ctx, database, func(conn *pgconn.PgConn) error {
		r := conn.ExecParams(ctx, unusedSQL(), nil, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("look for unused bundles: %w", r.Err)
		}
		found = nil
		return decodeJSON(r, &found)
	})
	if err != nil {
		if ctx.Err() == nil { // the sweep has the same trouble and says so
			s.log.Debug("unused bundles not looked for", "error", fault.Chain(err))
		}
		return
	}
	for _, u := range found {
		if s.bundles.known(u.Name) || u.Now.Sub(lastUsed(u.Comment)) < s.cfg.BundleUnused {
			continue
		}
		err := s.dropBundle(ctx, database, u)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTaken):
		case err != nil:
			if s.backlog.news(u.Name, err) {
				s.log.Warn("unused bundle not dropped", "bundle", u.Name, "error", fault.Chain(err))
			}
		default:
			s.log.Info("unused bundle dropped", "bundle", u.Name, "comment", u.Comment)
		}
	}
}

// dropBundle drops a bundle, from a connection to the database in which it has privileges. In
// the rare case of several, it is emptied in the others first.
func (s *Server) dropBundle(ctx context.Context, database string, u unusedBundle) error {
	for i, d := range u.Databases {
		c := &convergence{s: s, name: u.Name, drop: i == len(u.Databases)-1}
		c.guard = func(now bundleState) error {
			if now.Role.Users > 0 || now.Now.Sub(lastUsed(now.Role.Comment)) < s.cfg.BundleUnused || s.bundles.known(u.Name) {
				return errTaken
			}
			return nil
		}
		if err := s.converge(ctx, d, c); err != nil {
			return err
		}
	}
	if len(u.Databases) > 0 {
		return nil
	}
	return s.converge(ctx, database, &convergence{s: s, name: u.Name, drop: true})
}
