package store

import (
	"context"
	"database/sql"
	"time"
)

// sweepBatch bounds one sweeping transaction, so that writers do not wait for
// a long one.
const sweepBatch = 200

// sweepUntilClosed is the goroutine that ends entries whose time has come.
func (s *SQLite) sweepUntilClosed() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ticker := time.NewTicker(s.cfg.SweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-ticker.C:
		}
		// An error here is not lost: the same storage answers the next Txn, whose
		// caller hears of it, and the next sweep tries again.
		for more := true; more; {
			more, _ = s.sweep(ctx)
		}
	}
}

// sweep ends up to sweepBatch entries and tombstones whose time has come, and
// reports whether there may be more.
func (s *SQLite) sweep(ctx context.Context) (more bool, err error) {
	var due int
	err = s.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM state WHERE expires_at > 0 AND expires_at <= ?)`,
		s.cfg.Now().UnixMilli()).Scan(&due)
	if err != nil || due == 0 {
		return false, trouble(ctx, err)
	}
	var keys []string
	changed, err := s.write(ctx, func(w *writing) error {
		live, dead, err := w.due(ctx)
		if err != nil {
			return err
		}
		keys = append(live, dead...)
		for _, key := range dead {
			if err := w.forget(ctx, key); err != nil {
				return err
			}
		}
		for _, key := range live {
			if err := w.remove(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
	s.bells.ring(changed)
	return err == nil && len(keys) == sweepBatch, err
}

// due returns keys of live entries and of tombstones whose time has come.
func (w *writing) due(ctx context.Context) (live, dead []string, err error) {
	rows, err := w.tx.QueryContext(ctx, `SELECT key, deleted FROM state WHERE expires_at > 0 AND expires_at <= ? LIMIT ?`, w.now, sweepBatch)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var key sql.RawBytes
		var deleted bool
		if err := rows.Scan(&key, &deleted); err != nil {
			return nil, nil, err
		}
		if deleted {
			dead = append(dead, string(key))
		} else {
			live = append(live, string(key))
		}
	}
	return live, dead, rows.Err()
}

// forget removes the tombstone of key and moves the horizon over it: from a
// cursor before it, nobody can learn any more that key was deleted.
func (w *writing) forget(ctx context.Context, key string) error {
	_, err := w.tx.ExecContext(ctx, `UPDATE meta SET horizon = max(horizon, (SELECT rev FROM state WHERE key = ?))`, key)
	if err != nil {
		return err
	}
	_, err = w.tx.ExecContext(ctx, `DELETE FROM state WHERE key = ?`, key)
	return err
}
