package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/postern-db/postern/internal/fault"
)

// Config says where the SQLite store lives. Only Path is needed.
type Config struct {
	// Path of the database file. Its directory is made when missing; directory
	// and files must be closed to everybody but the owner.
	Path string
	// Now is the clock for expiry; nil is time.Now.
	Now func() time.Time
	// SweepEvery is how often expired entries are looked for; zero is a second.
	// Reading never shows an expired entry; sweeping tells the watchers.
	SweepEvery time.Duration
	// KeepTombstones is how long the store remembers that a key was deleted; zero
	// is a week. A watcher that was away for longer gets a Full delta.
	KeepTombstones time.Duration
}

// SQLite is a [Store] in one file, for one process.
type SQLite struct {
	cfg   Config
	epoch string
	lock  *os.File

	// SQLite has one writer at a time anyway. One connection makes writers wait
	// in Go, in order and with their contexts, instead of in busy loops.
	writer *sql.DB
	reader *sql.DB

	bells   bells
	closing chan struct{}
	stop    func() error // closes once
	sweeper sync.WaitGroup
}

var _ Store = (*SQLite)(nil)

// Open opens the SQLite store at cfg.Path and makes it when there is none. It
// refuses (Invalid) files that others may read, a file that is not a Postern
// store, and one that a newer Postern has changed; and (Unavailable) a store that
// another process has open.
//
// Each Open begins a new epoch. Revisions thus never compare across a restart,
// during which somebody may have put back a backup.
func Open(ctx context.Context, cfg Config) (*SQLite, error) {
	if cfg.Path == "" {
		return nil, fault.New(fault.Invalid, "the state store needs a path")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.SweepEvery <= 0 {
		cfg.SweepEvery = time.Second
	}
	if cfg.KeepTombstones <= 0 {
		cfg.KeepTombstones = 7 * 24 * time.Hour
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, unavailable(err)
	}
	if err := prepareFiles(path); err != nil {
		return nil, err
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	s := &SQLite{cfg: cfg, epoch: rand.Text(), lock: lock, closing: make(chan struct{})}
	s.stop = sync.OnceValue(s.shutDown)
	if err := s.connect(ctx, path); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.sweeper.Go(s.sweepUntilClosed)
	return s, nil
}

// connect opens the two pools and brings the schema up to date.
func (s *SQLite) connect(ctx context.Context, path string) (err error) {
	if s.writer, err = sql.Open("sqlite", dsn(path, false)); err != nil {
		return unavailable(err)
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = sql.Open("sqlite", dsn(path, true)); err != nil {
		return unavailable(err)
	}
	s.reader.SetMaxOpenConns(maxReaders)
	s.reader.SetMaxIdleConns(maxReaders)
	return migrate(ctx, s.writer)
}

// maxReaders bounds the connections that read. A read takes some ten
// microseconds, so more would only hold memory.
const maxReaders = 4

// dsn names the database file with the settings of each connection. The busy
// timeout matters for backup tools that hold a lock for a moment.
func dsn(path string, readOnly bool) string {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout(5000)")
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)") // a commit survives a power cut
	q.Add("_pragma", "secure_delete(FAST)")
	if readOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		q.Set("_txlock", "immediate")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// Close implements [Store].
func (s *SQLite) Close() error { return s.stop() }

func (s *SQLite) shutDown() error {
	close(s.closing)
	s.sweeper.Wait()
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} { // the last to close checkpoints the WAL
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// trouble turns an error of the storage into what Store promises.
func trouble(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("use state store: %w", cause)
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return unavailable(err)
}

func unavailable(cause error) error {
	return fault.New(fault.Unavailable, "the state store is not available").WithCause(cause)
}
