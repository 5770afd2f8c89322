package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Txn implements [Store].
func (s *SQLite) Txn(ctx context.Context, t Txn) (int64, error) {
	if err := t.check(); err != nil {
		return 0, err
	}
	var rev int64
	changed, err := s.write(ctx, func(w *writing) error {
		rev = w.rev - 1 // when nothing changes
		for _, c := range t.Conds {
			if err := w.require(ctx, c); err != nil {
				return err
			}
		}
		for _, p := range t.Puts {
			if err := w.put(ctx, p); err != nil {
				return err
			}
		}
		for _, key := range t.Deletes {
			if err := w.remove(ctx, key); err != nil {
				return err
			}
		}
		if len(w.changed) > 0 {
			rev = w.rev
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.bells.ring(changed)
	return rev, nil
}

// writing is one transaction on the way.
type writing struct {
	tx      *sql.Tx
	now     int64 // milliseconds since 1970
	keep    time.Duration
	rev     int64 // revision of what this transaction changes
	changed []string
}

// write runs do in a transaction and commits it. It returns the changed keys.
func (s *SQLite) write(ctx context.Context, do func(*writing) error) ([]string, error) {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return nil, trouble(ctx, err)
	}
	defer func() { _ = tx.Rollback() }()
	w := &writing{tx: tx, now: s.cfg.Now().UnixMilli(), keep: s.cfg.KeepTombstones}
	if err := tx.QueryRowContext(ctx, `SELECT rev + 1 FROM meta`).Scan(&w.rev); err != nil {
		return nil, trouble(ctx, err)
	}
	if err := do(w); err != nil {
		return nil, trouble(ctx, err)
	}
	if len(w.changed) > 0 {
		if _, err := tx.ExecContext(ctx, `UPDATE meta SET rev = ?`, w.rev); err != nil {
			return nil, trouble(ctx, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, trouble(ctx, err)
	}
	return w.changed, nil
}

func (w *writing) require(ctx context.Context, c Cond) error {
	var rev int64
	err := w.tx.QueryRowContext(ctx, `SELECT rev FROM state
		WHERE key = ? AND deleted = 0 AND (expires_at = 0 OR expires_at > ?)`, c.Key, w.now).Scan(&rev)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	case rev == c.Rev:
		return nil
	case c.Rev == 0:
		return fault.Newf(fault.Conflict, "%s exists already", c.Key)
	case rev == 0:
		return fault.Newf(fault.Conflict, "%s does not exist any more", c.Key)
	}
	return fault.Newf(fault.Conflict, "%s was changed by somebody else", c.Key).WithHint("read it again, then repeat the change")
}

func (w *writing) put(ctx context.Context, p Put) error {
	var expires int64
	if !p.Expires.IsZero() {
		expires = max(p.Expires.UnixMilli(), 1) // 0 would be never
	}
	value := p.Value
	if value == nil {
		value = []byte{} // nil would be NULL
	}
	_, err := w.tx.ExecContext(ctx, `INSERT INTO state (key, value, rev, version, expires_at, deleted) VALUES (?, ?, ?, 1, ?, 0)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, rev = excluded.rev, expires_at = excluded.expires_at, deleted = 0,
		version = CASE WHEN deleted = 1 OR (expires_at > 0 AND expires_at <= ?) THEN 1 ELSE version + 1 END`,
		p.Key, value, w.rev, expires, w.now)
	if err == nil {
		w.changed = append(w.changed, p.Key)
	}
	return err
}

// remove leaves a tombstone in the place of key.
func (w *writing) remove(ctx context.Context, key string) error {
	res, err := w.tx.ExecContext(ctx, `UPDATE state SET value = x'', rev = ?, version = 0, expires_at = ?, deleted = 1
		WHERE key = ? AND deleted = 0`, w.rev, w.now+w.keep.Milliseconds(), key)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n > 0 {
		w.changed = append(w.changed, key)
	}
	return err
}
