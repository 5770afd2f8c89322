package agent

import (
	"context"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/pgwire"
)

// recordPause is how long what sessions keep for the record waits after some of it was
// looked at. Each round pushes out of the processors' caches what sessions, PostgreSQL
// and its clients need again, so few large ones cost less than many small ones.
const recordPause = 25 * time.Millisecond

// recorder puts on record what sessions have kept of their statements: the first at
// once, what comes within recordPause after that together. One that keeps more than it
// may meanwhile does the work itself, so nothing has to wait for the recorder.
type recorder struct {
	log  *audit.Log
	soon chan struct{} // holds one value when there is something

	mu      sync.Mutex
	waiting []*session // guarded by mu
}

func newRecorder(log *audit.Log) *recorder {
	return &recorder{log: log, soon: make(chan struct{}, 1)}
}

// add has the recorder look at what s keeps. It does not wait.
func (r *recorder) add(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, s)
	if len(r.waiting) == 1 {
		select {
		case r.soon <- struct{}{}:
		default:
		}
	}
}

// take returns the sessions that were added, and keeps their list in the room of an
// old one.
func (r *recorder) take(old []*session) []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.waiting
	r.waiting = old[:0]
	return taken
}

// run works until ctx ends. What sessions keep after that they look at when they end.
func (r *recorder) run(ctx context.Context) {
	var sessions []*session
	for {
		select {
		case <-r.soon:
		case <-ctx.Done():
			return
		}
		sessions = r.take(sessions)
		for _, s := range sessions {
			s.recordKept()
		}
		r.log.Hurry()
		clear(sessions) // lets go of those that end
		select {
		case <-time.After(recordPause):
		case <-ctx.Done():
			return
		}
	}
}

// recordKept puts on record what the session has kept of its statements. A bug of ours
// ends the session, and is on record instead.
func (s *session) recordKept() {
	var bug error
	defer func() {
		if bug == nil {
			return
		}
		s.statements.Refuse(bug)
		s.post(s.recording, audit.MalformedPacket{Session: s.next(), Database: s.auditDatabase(), Error: bug.Error()})
		s.end(pgwire.FromFault(bug))
	}()
	defer s.recovered(&bug)
	s.statements.Look()
}
