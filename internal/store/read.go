package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Get implements [Store].
func (s *SQLite) Get(ctx context.Context, key string) (Entry, error) {
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	row := s.reader.QueryRowContext(ctx, `SELECT key, value, rev, version, expires_at, deleted FROM state WHERE key = ?`, key)
	e, err := scanEntry(row, s.cfg.Now())
	if errors.Is(err, sql.ErrNoRows) || err == nil && e.Deleted {
		return Entry{}, fault.Newf(fault.NotFound, "%s does not exist", key)
	}
	return e, trouble(ctx, err)
}

// List implements [Store].
func (s *SQLite) List(ctx context.Context, prefix string) ([]Entry, Cursor, error) {
	d, err := s.Changes(ctx, prefix, Cursor{})
	return d.Entries, d.Cursor, err
}

// Changes implements [Store].
func (s *SQLite) Changes(ctx context.Context, prefix string, since Cursor) (Delta, error) {
	if err := checkPrefix(prefix); err != nil {
		return Delta{}, err
	}
	tx, err := s.reader.BeginTx(ctx, nil) // one snapshot for both queries
	if err != nil {
		return Delta{}, trouble(ctx, err)
	}
	defer func() { _ = tx.Rollback() }()
	delta := Delta{Cursor: Cursor{Epoch: s.epoch}}
	var horizon int64
	if err := tx.QueryRowContext(ctx, `SELECT rev, horizon FROM meta`).Scan(&delta.Cursor.Rev, &horizon); err != nil {
		return Delta{}, trouble(ctx, err)
	}
	delta.Full = since.Epoch != s.epoch || since.Rev < horizon || since.Rev > delta.Cursor.Rev
	if !delta.Full && since.Rev == delta.Cursor.Rev {
		return delta, nil
	}
	delta.Entries, err = s.entries(ctx, tx, prefix, delta.Full, since.Rev)
	if err != nil {
		return Delta{}, trouble(ctx, err)
	}
	return delta, nil
}

// entries reads what is under prefix: everything that lives, or everything that
// changed after revision since.
func (s *SQLite) entries(ctx context.Context, tx *sql.Tx, prefix string, full bool, since int64) ([]Entry, error) {
	// Few rows are newer than since, many may have the prefix: name the index.
	query := `SELECT key, value, rev, version, expires_at, deleted FROM state INDEXED BY state_rev
		WHERE key >= ? AND key < ? AND rev > ? ORDER BY key`
	if full {
		query = `SELECT key, value, rev, version, expires_at, deleted FROM state
			WHERE key >= ? AND key < ? AND rev > ? AND deleted = 0 ORDER BY key`
		since = 0
	}
	rows, err := tx.QueryContext(ctx, query, prefix, prefix+prefixEnd, since)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var entries []Entry
	now := s.cfg.Now()
	for rows.Next() {
		e, err := scanEntry(rows, now)
		if err != nil {
			return nil, err
		}
		if full && e.Deleted {
			continue
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// scanEntry reads one row. An entry that has expired is deleted for every
// reader, whether the sweeper has come by or not.
func scanEntry(row interface{ Scan(dest ...any) error }, now time.Time) (Entry, error) {
	var e Entry
	var expires int64
	if err := row.Scan(&e.Key, &e.Value, &e.Rev, &e.Version, &expires, &e.Deleted); err != nil {
		return Entry{}, err
	}
	if expires > 0 && expires <= now.UnixMilli() {
		e.Deleted = true
	}
	if e.Deleted {
		return Entry{Key: e.Key, Rev: e.Rev, Deleted: true}, nil
	}
	if expires > 0 {
		e.Expires = time.UnixMilli(expires).UTC()
	}
	return e, nil
}
