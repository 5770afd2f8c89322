package provision

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// A backend opens a transaction before it authenticates and ends it after it has
// entered itself into pg_stat_activity (InitPostgres in the PostgreSQL sources).
// In between it is the owner of a virtual transaction in pg_locks that
// pg_stat_activity does not know; since version 18 it is listed there, but
// belongs to no user and no database yet.
//
// The queries must run in this order: asked the other way round, a login that
// finishes in between would be missed by both. Within a transaction
// pg_stat_activity stands still unless it is told to be read again.
const (
	virtualSQL = `SELECT COALESCE(pg_catalog.json_agg(pid), '[]') FROM pg_catalog.pg_locks
WHERE locktype = 'virtualxid' AND pid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()`
	clearSnapshotSQL = `SELECT pg_catalog.pg_stat_clear_snapshot()`
	knownSQL         = `SELECT COALESCE(pg_catalog.json_agg(pg_catalog.pg_stat_get_backend_pid(b)), '[]')
FROM pg_catalog.pg_stat_get_backend_idset() AS b
WHERE pg_catalog.pg_stat_get_backend_userid(b) <> 0 OR pg_catalog.pg_stat_get_backend_dbid(b) <> 0`
)

// logins adds the question which backends are logging in. What the batch then
// observes knows every login that is not among them.
func (b *batch) logins(into *[]uint32) {
	var virtual []uint32
	read := func(list *[]uint32) func(*pgconn.Result, error) error {
		return func(r *pgconn.Result, err error) error {
			*list = nil
			if err == nil {
				err = decodeJSON(r, list)
			}
			if err != nil {
				return fmt.Errorf("look for logins: %w", err)
			}
			return nil
		}
	}
	b.prepared(virtualStatement, nil, read(&virtual))
	b.prepared(clearStatement, nil, func(_ *pgconn.Result, err error) error { return err })
	b.prepared(knownStatement, nil, func(r *pgconn.Result, err error) error {
		var known []uint32
		if err := read(&known)(r, err); err != nil {
			return err
		}
		*into = slices.DeleteFunc(virtual, func(pid uint32) bool { return slices.Contains(known, pid) })
		return nil
	})
}

// aloneSQL fails with a division by zero unless the account $1 is managed and has no
// session but those of the backends $2: then PostgreSQL ignores the rest of the batch.
const aloneSQL = `SELECT 1 / pg_catalog.count(*) FROM pg_catalog.pg_roles u
WHERE u.rolname = $1::pg_catalog.text::pg_catalog.name
  AND (SELECT pg_catalog.bool_and(NOT m.admin_option) FROM pg_catalog.pg_auth_members m WHERE m.member = u.oid AND m.roleid = ` + groupOID + `)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_get_backend_idset() AS b
    WHERE pg_catalog.pg_stat_get_backend_userid(b) = u.oid AND pg_catalog.pg_stat_get_backend_pid(b) <> ALL ($2::pg_catalog.int4[]))`

// alone ends the batch with errTaken if the account has a session that is not
// known to have ended. A look would only tell us, when what follows has been done.
func (b *batch) alone(user string, ended []uint32) {
	pids := make([]int64, len(ended))
	for i, pid := range ended {
		pids[i] = int64(pid)
	}
	b.prepared(aloneStatement, [][]byte{[]byte(user), arrayText(pids)}, func(_ *pgconn.Result, err error) error {
		if codeOf(err) == codeDivisionByZero {
			return errTaken
		}
		return err
	})
}

// awaitLogins asks again until every pending login has either failed or is to be
// seen in pg_stat_activity. Logins that began later find the account disabled.
func awaitLogins(ctx context.Context, pending []uint32, ask func() ([]uint32, error)) error {
	return poll(ctx, loginWait, func() (bool, error) {
		now, err := ask()
		pending = slices.DeleteFunc(pending, func(pid uint32) bool { return !slices.Contains(now, pid) })
		return len(pending) == 0, err
	})
}
