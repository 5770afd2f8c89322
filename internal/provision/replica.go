package provision

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// ErrBehind marks the fault of a replica that does not catch up in time.
var ErrBehind = errors.New("the replica is behind")

// codeUnsupported is what Aurora answers to questions about the WAL: its replicas
// share the storage of the writer.
const codeUnsupported = "0A000"

const (
	recoverySQL = `SELECT pg_catalog.pg_is_in_recovery()::pg_catalog.text`
	flushedSQL  = `SELECT pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text`
	replayedSQL = `SELECT COALESCE(pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_catalog.pg_lsn, false)::pg_catalog.text,
  pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text,
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END::pg_catalog.text`
)

// InRecovery reports whether the server behind an admin connection is a replica.
func InRecovery(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	switch conn.ParameterStatus("in_hot_standby") { // reported since version 14
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	r := conn.ExecParams(ctx, recoverySQL, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return false, fmt.Errorf("ask whether the server is a replica: %w", r.Err)
	}
	return single(r) == "true", nil
}

// single returns the value of a result of one row and column.
func single(r *pgconn.Result) string {
	if len(r.Rows) != 1 || len(r.Rows[0]) == 0 {
		return ""
	}
	return string(r.Rows[0][0])
}

// PrepareReplica readies a new admin connection to a replica for [Lease.Await], any
// number of times. The fault is Unavailable.
func PrepareReplica(ctx context.Context, conn *pgconn.PgConn) error {
	if err := prepare(ctx, conn); err != nil {
		return fault.Newf(fault.Unavailable, "prepare the admin connection to the replica: %w", err)
	}
	return nil
}

// Await waits until a replica has the account as the session needs it, and the
// password that [Lease.Password] has given it, if it has one. replica is
// an admin connection to the very machine that the session logs in to, which
// [PrepareReplica] has readied. The fault is
// [ErrBehind], Unavailable, when that takes longer than Config.ReplayTimeout.
func (l *Lease) Await(ctx context.Context, replica *pgconn.PgConn) error {
	limited, cancel := context.WithTimeout(ctx, l.s.cfg.ReplayTimeout+askAtMost)
	defer cancel()
	w := awaiting{lease: l, replica: replica}
	if err := l.s.withConn(limited, l.database, func(conn *pgconn.PgConn) error { return w.mark(limited, conn) }); err != nil {
		return err
	}
	err := poll(limited, l.s.cfg.ReplayTimeout, func() (bool, error) { return w.ready(limited) })
	if err == nil && !w.done {
		return w.behind()
	}
	return err
}

// awaiting is the wait for one replica.
type awaiting struct {
	lease   *Lease
	replica *pgconn.PgConn
	lsn     string // what the replica must have replayed; empty where that cannot be asked (Aurora)

	// What was seen last.
	done     bool
	replayed string
	paused   bool
}

// mark notes how far the writer's WAL is on disk. An activation for a replica
// commits to disk, and only what is there reaches replicas. (The end of what is
// inserted may stay behind for long: nobody has to flush a transaction that is open.)
func (w *awaiting) mark(ctx context.Context, conn *pgconn.PgConn) error {
	r := conn.ExecParams(ctx, flushedSQL, nil, nil, nil, nil).Read()
	if codeOf(r.Err) == codeUnsupported {
		w.lsn = ""
		return nil
	}
	w.lsn = single(r)
	return r.Err
}

// ready reports whether the replica has replayed enough and shows the account as
// it is wanted. The latter alone could be an older session's account, and the
// former alone could lack what another agent has committed without waiting for the disk.
func (w *awaiting) ready(ctx context.Context) (bool, error) {
	if w.lsn != "" {
		r := w.replica.ExecParams(ctx, replayedSQL, [][]byte{[]byte(w.lsn)}, nil, nil, nil).Read()
		if r.Err != nil {
			return false, fmt.Errorf("ask how far the replica is: %w", r.Err)
		}
		row := r.Rows[0]
		w.replayed, w.paused = string(row[1]), string(row[2]) == "true"
		if string(row[0]) != "true" {
			return false, nil
		}
	}
	w.lease.mu.Lock()
	want := w.lease.want
	if w.lsn == "" {
		// Nothing but the password itself tells that it is there. Elsewhere it may be gone
		// again: then another agent has set its own, and the login will be refused.
		want.key = w.lease.s.accounts.openKey(w.lease.entry)
	}
	w.lease.mu.Unlock()
	have, err := observe(ctx, w.replica, want.user, want.roles)
	if err != nil {
		return false, err
	}
	steps, _ := plan(have, want)
	w.done = len(steps) == 0 && have.Account.Managed
	return w.done, nil
}

// behind says how far the replica is from what is needed.
func (w *awaiting) behind() error {
	f := fault.Newf(fault.Unavailable, "the replica has not caught up with its writer: database user %q is not there after %s",
		w.lease.want.user, w.lease.s.cfg.ReplayTimeout).WithCause(ErrBehind)
	if missing := distance(w.replayed, w.lsn); missing > 0 {
		f = f.WithDetail(fmt.Sprintf("It has replayed up to %s and needs %s: %d bytes of WAL are missing.", w.replayed, w.lsn, missing))
	}
	if w.paused {
		return f.WithHint("Replay is paused on the replica; a superuser goes on with it there: SELECT pg_wal_replay_resume();")
	}
	return f.WithHint("Try again in a moment, or connect to the writer. Look at pg_stat_replication there, and at recovery_min_apply_delay of the replica.")
}

// distance returns how many bytes lie between two positions in the WAL, or 0
// where they cannot be read.
func distance(from, to string) int64 {
	a, okA := position(from)
	b, okB := position(to)
	if !okA || !okB {
		return 0
	}
	return int64(b - a)
}

// position reads a pg_lsn: two hexadecimal numbers of 32 bits.
func position(lsn string) (uint64, bool) {
	var high, low uint64
	var errHigh, errLow error
	for i := range len(lsn) {
		if lsn[i] == '/' {
			high, errHigh = strconv.ParseUint(lsn[:i], 16, 32)
			low, errLow = strconv.ParseUint(lsn[i+1:], 16, 32)
			return high<<32 | low, errHigh == nil && errLow == nil
		}
	}
	return 0, false
}

// Moved says that what is to be written to is perhaps another server now, because
// a replica was promoted. The admin connections are made anew, and what the old
// writer has left on the new one is swept.
func (s *Server) Moved(ctx context.Context) {
	s.pool.closeIdle(ctx, time.Now())
	s.sweepSoon()
}
