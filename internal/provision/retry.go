package provision

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Retries: ten attempts, the pauses doubling from 10 ms to 750 ms.
const (
	maxAttempts = 10
	firstPause  = 10 * time.Millisecond
	longestWait = 750 * time.Millisecond
	// refusedAttempts is for our own refusals. While somebody drops the account,
	// what the admin may do with it can look less than it is: functions such as
	// pg_has_role do not see the snapshot of the query.
	refusedAttempts = 3
)

// passing are the SQLSTATEs of collisions with somebody else's change. Everything
// we do begins by looking at what is, so all of it may be done again.
var passing = []string{
	"40001", // serialization failure
	"40P01", // deadlock
	"23505", // unique violation: two created the same role
	"23P01", // exclusion violation
	"42710", // the role was created meanwhile
	"42704", // the role was dropped meanwhile
	"XX000", // tuple concurrently updated or deleted
	"57P01", // the connection was ended by an administrator
	"57P02", // … by a crash
}

// withConn calls work with an admin connection to the database. work must be
// repeatable: it is done again when it collided with somebody else's change and,
// at once, when a warm connection turned out to be dead.
func (s *Server) withConn(ctx context.Context, database string, work func(*pgconn.PgConn) error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		warm, broken, err := s.once(ctx, database, work)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			if warm {
				// It may have been cut off without a word, and the others with it.
				s.pool.closeIdle(ctx, time.Now())
			}
			return tooLate(err)
		case broken && warm:
			// The server was restarted, or a firewall forgot the connection: the others are no better.
			s.pool.closeIdle(ctx, time.Now())
			s.counters.retries.Add(1)
			continue
		case attempt == maxAttempts, errors.Is(err, errRefused) && attempt == refusedAttempts,
			!broken && !hungUp(err) && !errors.Is(err, errRefused) && !errors.Is(err, errLocked) && !slices.Contains(passing, codeOf(err)):
			return finalFault(err, broken)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestWait)
		s.counters.retries.Add(1)
	}
}

// hungUp reports whether the server has ended a connection without a word, as when
// an administrator does it while the connection is being opened.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// once calls work with a connection, and tells whether that was warm and whether it broke.
func (s *Server) once(ctx context.Context, database string, work func(*pgconn.PgConn) error) (warm, broken bool, err error) {
	conn, warm, err := s.pool.get(ctx, database)
	if err != nil {
		return false, false, err
	}
	defer s.pool.put(ctx, database, conn)
	err = work(conn)
	return warm, err != nil && conn.IsClosed(), err
}
