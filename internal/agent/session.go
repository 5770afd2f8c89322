package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/portmux"
	"github.com/postern-db/postern/internal/provision"
)

// session is one database session, from accept to the end event. Its fields are
// filled in by the steps, in order; only end is called from elsewhere.
type session struct {
	agent *Server
	id    string
	log   *slog.Logger
	conn  *tls.Conn // client side

	accepted time.Time
	events   atomic.Int64 // audit events so far

	// admit
	identity identity.Identity
	startup  *pgwire.Startup
	// authorize
	database *database
	admitted bool  // the decision stands, and counts against max_connections; guarded by agent.mu
	view     View  // what the decision was made on
	relabels int64 // and after how many changes of labels
	decision access.Decision
	started  time.Time

	authorized chan error // gets nil when it is durable that the session was let in
	// provision
	lease   *provision.Lease  // nil when the database user is not ours to create
	account string            // who logs in: the database user, or a sibling beside it
	bundle  *provision.Bundle // holds the object permissions; nil without any
	// connect
	server        *pgwire.ServerConn
	backend       *pgwire.Backend
	anchored      string             // the account of the anchor
	anchor        *pgwire.ServerConn // on the writer, while the session is on a replica; see replica.go
	recorded      bool               // the start is on record
	releaseCancel func()             // forgets the cancel key; nil until there is one
	greeted       bool               // the client has been told that the session is open

	// forward
	statements *pgwire.Statements // nil where policy wants none recorded
	recording  context.Context    // under which statements are recorded
	subject    *audit.Prepared    // of their events

	following errand // followPolicy

	mu      sync.Mutex // guards the fields below
	limits  access.Limits
	limiter *limitWatch    // ends the session by limits; nil before the client is relayed
	held    *holding       // what the session was given; nil before it was
	offered *offer         // the latest; nil before there was one
	lost    provision.Loss // what its bundles hold no longer, and nobody has looked into yet
	moving  []string       // bundles between which its account is being moved
	ending  *pgwire.Error
	stop    context.CancelCauseFunc // ends the steps; nil before they begin
}

// handle serves one connection, TLS not yet begun, until it is over. It is admitted
// while serving lasts; a session ends in its own way after that.
func (s *Server) handle(serving, ctx context.Context, raw net.Conn, cfg *tls.Config) {
	if hello, ok := portmux.HelloOf(raw); ok && !hello.Kind.TLS() {
		s.handlePlain(ctx, raw)
		return
	}
	s.newSession(tls.Server(pgwire.BelowTLS(raw), cfg)).run(serving, ctx)
}

func (s *Server) newSession(conn *tls.Conn) *session {
	sess := &session{agent: s, id: newID(), conn: conn, accepted: time.Now()}
	sess.log = s.log.With("session", sess.id, "addr", conn.RemoteAddr().String())
	return sess
}

// run is the life of a session. Whatever was begun is finished, in whatever step
// it went wrong.
func (s *session) run(serving, ctx context.Context) {
	err := s.agent.metrics.step("admit", func() error { return s.admit(serving, ctx) })
	if err == nil && s.startup != nil && !s.agent.enter(s) {
		err = endShutdown()
	}
	if err != nil || s.startup == nil { // nil: a cancel request, which is done
		s.refuse(err)
		_ = s.conn.Close()
		return
	}
	s.agent.refresh(ctx)
	steps, stop := s.untilEnded(ctx)
	if err := s.open(steps); err != nil {
		s.close(ctx, stop, err)
		return
	}
	// From here on it waits for nearly all of the time, and does so on a stack that has
	// not grown with TLS and all else before.
	s.agent.running.Go(func() {
		s.close(ctx, stop, s.forward(steps))
	})
}

// open is the three steps after admission.
func (s *session) open(ctx context.Context) (err error) {
	defer s.recovered(&err)
	measured := s.agent.metrics.step
	if err := measured("authorize", func() error { return s.authorize(ctx) }); err != nil {
		return err
	}
	s.recordAuthorized(ctx)
	ahead := s.dialAhead(ctx, s.decision.DatabaseUser) // neither needs the other, so both at once
	if err := measured("provision", func() error { return s.provision(ctx) }); err != nil {
		ahead.discard()
		return err
	}
	return measured("connect", func() error { return s.connect(ctx, ahead) })
}

// close is the last step. err is how the steps before it ended.
func (s *session) close(ctx context.Context, stop func(), err error) {
	defer s.conn.Close()
	defer s.agent.leave(s)
	defer stop()
	_ = s.agent.metrics.step("finish", func() error { s.finish(ctx, err); return nil })
}

// recovered turns a panic, which is a bug of ours, into the end of this session only.
// The steps defer it.
func (s *session) recovered(err *error) {
	if bug := recover(); bug != nil {
		s.log.Error("session panicked", "panic", fmt.Sprint(bug), "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", bug)
	}
}

// end asks the session to end, with the error that the client is to read. The
// first reason counts.
func (s *session) end(why *pgwire.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	s.ending = why
	if s.stop != nil {
		s.stop(why)
	}
}

// endReason returns why the session was asked to end, or nil.
func (s *session) endReason() *pgwire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// untilEnded returns a context that ends when the session is asked to.
func (s *session) untilEnded(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = cancel
	if s.ending != nil {
		cancel(s.ending)
	}
	return ctx, func() { cancel(nil) }
}

// newID returns the id of a session: random, short enough to be read aloud.
func newID() string { return rand.Text()[:13] }
