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
const recordPause = 40 * time.Millisecond

// recorder puts on record what sessions have kept of their statements: the first at
// once, what comes within recordPause after that together, or earlier when a session
// keeps much. One that keeps more than it may does the work itself, so nothing has to
// wait for the recorder.
type recorder struct {
	log   *audit.Log
	pause time.Duration // recordPause
	soon  chan struct{} // holds one value when there is something
	much  chan struct{} // holds one value when there is much

	mu      sync.Mutex
	waiting []*session // guarded by mu
}

func newRecorder(log *audit.Log) *recorder {
	return &recorder{log: log, pause: recordPause, soon: make(chan struct{}, 1), much: make(chan struct{}, 1)}
}

// add has the recorder look at what s keeps. It does not wait.
func (r *recorder) add(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, s)
	if len(r.waiting) == 1 {
		signal(r.soon)
	}
}

// hurry ends the pause of the recorder, as a session that was added keeps much.
func (r *recorder) hurry() { signal(r.much) }

// signal puts a value into a channel that holds one, unless it is there already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
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
		clear(sessions) // lets go of those that end
		r.log.Hurry()
		select {
		case <-time.After(r.pause):
		case <-r.much:
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
