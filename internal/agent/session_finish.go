package agent

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
)

const (
	finishTimeout = 10 * time.Second // for PostgreSQL's process to end
	busyAfter     = 100 * time.Millisecond
	// releaseTimeout bounds the release of the database user. What fails is done by
	// the next sweep.
	releaseTimeout = 15 * time.Second
	refuseTimeout  = 5 * time.Second // for a client to read why
)

// finish undoes what the steps before have done, on a deadline of its own: the
// server's process ends, the database user is released, the end is on record.
func (s *session) finish(ctx context.Context, err error) {
	ctx = context.WithoutCancel(ctx)
	if !s.greeted && !s.recorded {
		s.refused(ctx, err)
	}
	if s.releaseCancel != nil {
		s.releaseCancel()
	}
	s.finishServer(ctx)
	if s.statements != nil {
		s.statements.Close()
	}
	s.finishAnchor(ctx)
	s.release(ctx)
	s.releaseBundle()
	s.sessionEnded(ctx, err)
	if s.database != nil {
		s.database.sessions.Done()
	}
	if s.greeted {
		_ = pgwire.CloseClient(s.conn)
	}
}

// finishServer ends PostgreSQL's process and waits until it is gone, so that the
// release does not find it. An idle process ends at once; one that does not is
// running a statement for nobody, which is cancelled.
func (s *session) finishServer(ctx context.Context) {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	cancelled := make(chan struct{})
	busy := time.AfterFunc(busyAfter, func() {
		defer close(cancelled)
		if err := s.server.Cancel(ctx, s.backend); err != nil {
			s.log.Warn("statement not cancelled", "error", fault.Chain(err))
		}
	})
	if err := s.server.Finish(ctx); err != nil {
		s.log.Warn("server process not seen to end", "pid", s.backend.PID, "error", fault.Chain(err))
	}
	if !busy.Stop() {
		<-cancelled
	}
}

// release gives the database user back.
func (s *session) release(ctx context.Context) {
	if s.lease == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	outcome, err := s.lease.Release(ctx)
	switch {
	case errors.Is(err, errFrozen):
		s.log.Info("database user kept, the database is frozen", "database_user", s.account)
	case err != nil:
		s.log.Error("database user not released, the next sweep will", "database_user", s.account, "error", fault.Chain(err))
	}
	s.userReleased(ctx, outcome, err)
}

// refuse tells a client that is not yet in a session why it gets none, and logs it.
func (s *session) refuse(err error) {
	if err == nil || errors.Is(err, io.EOF) {
		return // a cancel request, or a connection that was only looked at
	}
	s.log.Info("connection refused", "error", fault.Chain(err))
	if _, mute := errors.AsType[*silent](err); mute {
		return
	}
	refusal := pgwire.Refusal(s.shown(err))
	s.agent.metrics.refuse(err, refusal.Code)
	_ = s.conn.SetDeadline(time.Now().Add(refuseTimeout))
	_ = pgwire.WriteError(s.conn, refusal)
	_ = pgwire.CloseClient(s.conn)
}

// shown adds the id of the session to an error of which nothing else may be said.
func (s *session) shown(err error) error {
	if why := s.endReason(); why != nil {
		return why
	}
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	if _, ours := errors.AsType[*pgwire.Error](err); ours {
		return err
	}
	return fault.New(fault.Internal, "internal error (session "+s.id+")").
		WithHint("The gateway's log has the details under this id.").WithCause(err)
}
