package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// sweepSQL lists the managed accounts without a session that still have
// something to lose, or are otherwise not as a release leaves them.
const sweepSQL = `
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_object(
  'user', u.rolname, 'active', u.rolcanlogin OR x.more OR y.drifted, 'comment', COALESCE(d.description, ''),
  'owns', (SELECT pg_catalog.min(db.datname::pg_catalog.text COLLATE "C") FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database db ON db.oid = s.dbid
    WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = u.oid AND s.deptype = 'o' AND db.datallowconn))), '[]')
FROM (
  SELECT m.member FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
  WHERE g.rolname = '` + Group + `' GROUP BY m.member HAVING pg_catalog.bool_and(NOT m.admin_option)
) AS managed
JOIN pg_catalog.pg_roles u ON u.oid = managed.member
CROSS JOIN LATERAL (SELECT EXISTS (
  SELECT FROM pg_catalog.pg_auth_members o JOIN pg_catalog.pg_roles r ON r.oid = o.roleid
  WHERE o.member = u.oid AND r.rolname <> '` + Group + `') AS more) AS x
CROSS JOIN LATERAL (SELECT u.rolsuper OR u.rolcreaterole OR u.rolcreatedb OR u.rolreplication OR u.rolbypassrls OR NOT u.rolinherit
    OR u.rolconnlimit <> -1 OR COALESCE(pg_catalog.isfinite(u.rolvaliduntil) AND u.rolvaliduntil < pg_catalog.clock_timestamp(), false)
    OR EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = u.oid)
    OR EXISTS (SELECT FROM pg_catalog.pg_auth_members h WHERE h.roleid = u.oid AND ` + isHeir + `) AS drifted) AS y
LEFT JOIN pg_catalog.pg_shdescription d
  ON d.objoid = u.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.description IN ('` + dropMarker + `', '` + dropChosenMarker + `', '` + reassignMarker + `', '` + reassignChosenMarker + `')
WHERE NOT pg_catalog.pg_is_in_recovery() -- the primary's agents do it
  AND u.rolname <> CURRENT_USER
  AND (u.rolcanlogin OR x.more OR y.drifted OR d.objoid IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = u.oid)`

// leftover is an account that the sweep found.
type leftover struct {
	User    string `json:"user"`
	Active  bool   `json:"active"`  // can log in, holds roles, or is not as we leave accounts
	Comment string `json:"comment"` // that says what becomes of it; else empty
	Owns    string `json:"owns"`    // a logical database in which it owns something; empty: none
}

const (
	// dropAgainAfter is how often dropping an account is tried again that something depends on.
	dropAgainAfter = time.Hour
	// sweepers bounds the accounts released at once: a crash may leave many, and
	// the sessions of today come first.
	sweepers = 3
)

// backlog is what one sweep remembers for the next.
type backlog struct {
	mu       sync.Mutex
	database string               // the last one a session used
	dropped  map[string]time.Time // when dropping the account was tried last
	failed   map[string]string    // why an account could not be released
}

func (b *backlog) setDatabase(database string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.database = database
}

// due reports whether to try dropping the user's account, and notes that it is tried.
func (b *backlog) due(user string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.dropped[user]; ok && now.Sub(last) < dropAgainAfter {
		return false
	}
	if b.dropped == nil {
		b.dropped = map[string]time.Time{}
	}
	b.dropped[user] = now
	return true
}

// news notes why an account could not be released, and reports whether that was
// not known yet.
func (b *backlog) news(user string, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed[user] == err.Error() {
		return false
	}
	if b.failed == nil {
		b.failed = map[string]string{}
	}
	b.failed[user] = err.Error()
	return true
}

// forget drops what is remembered of accounts that are not found any more.
func (b *backlog) forget(found []leftover) {
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := func(user string) bool {
		return !slices.ContainsFunc(found, func(l leftover) bool { return l.User == user })
	}
	maps.DeleteFunc(b.dropped, func(user string, _ time.Time) bool { return gone(user) })
	maps.DeleteFunc(b.failed, func(user string, _ string) bool { return gone(user) })
}

// sweepDatabase returns the logical database to sweep from. Any will do, accounts
// belong to the whole server.
func (s *Server) sweepDatabase() string {
	s.backlog.mu.Lock()
	defer s.backlog.mu.Unlock()
	switch {
	case s.cfg.DefaultDatabase != "":
		return s.cfg.DefaultDatabase
	case s.backlog.database != "":
		return s.backlog.database
	}
	return "postgres"
}

// Sweep releases the managed accounts that have no session and no lease here but
// can log in or hold roles: what a crash, a lost connection or a failed release
// left behind. It does so with the protocol of a release, so it may run at any
// time, on any number of agents. The outcomes are of the accounts that it changed or
// failed on; the error is about the sweep as a whole.
func (s *Server) Sweep(ctx context.Context) ([]Outcome, error) {
	if s.frozen() != nil {
		return nil, nil // the sweep after the thaw finds it all
	}
	if s.cfg.Replicas {
		s.pool.closeIdle(ctx, time.Now()) // another server may be the writer now
	}
	database := s.sweepDatabase()
	var found []leftover
	err := s.withConn(ctx, database, func(conn *pgconn.PgConn) error {
		r := conn.ExecParams(ctx, sweepSQL, nil, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("look for accounts without sessions: %w", r.Err)
		}
		found = nil
		return decodeJSON(r, &found)
	})
	if err != nil {
		return nil, err
	}
	s.backlog.forget(found)
	var (
		mu       sync.Mutex
		outcomes []Outcome
		group    errgroup.Group
	)
	group.SetLimit(sweepers)
	for _, account := range found {
		if !account.Active && !s.backlog.due(account.User, time.Now()) {
			continue
		}
		group.Go(func() error {
			out := s.sweepOne(ctx, database, account)
			if out.Err != nil || out.Result == Dropped || len(out.Moved) > 0 || account.Active && len(out.Statements) > 0 {
				mu.Lock()
				defer mu.Unlock()
				outcomes = append(outcomes, out)
			}
			return nil
		})
	}
	return outcomes, group.Wait()
}

func (s *Server) sweepOne(ctx context.Context, database string, account leftover) Outcome {
	e := s.accounts.use(account.User)
	defer s.accounts.leave(e)
	r := &release{
		s: s, entry: e, database: database, estate: account.Owns, user: account.User, mode: afterwards(account.Comment), ended: s.accounts.end(e, nil),
	}
	out, err := r.run(ctx)
	out.Err = err
	return out
}
