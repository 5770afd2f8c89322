package agent

import (
	"sync"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/pgwire"
)

// noticeBefore is how long before its planned end a person is told of it.
const noticeBefore = 5 * time.Minute

// limitWatch ends a session when its login expires, when it has lasted as long as
// policy allows, or when its client has been idle for too long. All but the last
// can be foreseen, and are announced. It is a timer and no goroutine: thousands of
// sessions wait for hours.
type limitWatch struct {
	now        func() time.Time
	started    time.Time
	loginEnd   time.Time
	lastClient func() time.Time // when the client last sent something
	limits     func() access.Limits

	notice, end func(*pgwire.Error) // called with mu held

	mu sync.Mutex
	// All below is guarded by mu.
	timer     *time.Timer // of the next look; nil before the first one
	announced time.Time   // the end that the person was told of
	over      bool        // the session was ended, or stop was called
}

// look does what is due, and looks again when something else may be. It is called at the beginning
// and when there are other limits.
func (w *limitWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	limits, now := w.limits(), w.now()
	at, why := w.planned(limits)
	next, reason := at, why
	if limits.ClientIdleTimeout > 0 {
		if idle := w.lastClient().Add(limits.ClientIdleTimeout); idle.Before(at) {
			next, reason = idle, endIdle(limits.ClientIdleTimeout)
		}
	}
	if !now.Before(next) {
		w.over = true
		w.end(reason)
		return
	}
	if !at.Equal(w.announced) {
		if remind := at.Add(-noticeBefore); now.Before(remind) {
			next = earlier(next, remind)
		} else {
			w.notice(noticeEnding(at.Sub(now), why))
			w.announced = at
		}
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(next.Sub(now), w.look)
	} else {
		w.timer.Reset(next.Sub(now))
	}
}

// stop returns when nothing will be done any more.
func (w *limitWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// planned returns when the session has to end whatever its client does, and why.
func (w *limitWatch) planned(limits access.Limits) (time.Time, *pgwire.Error) {
	at, why := w.started.Add(limits.MaxSessionTTL), endTooLong(limits.MaxSessionTTL)
	if limits.DisconnectExpiredCert && !w.loginEnd.IsZero() && w.loginEnd.Before(at) {
		at, why = w.loginEnd, endExpired(w.loginEnd)
	}
	return at, why
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// setLimits gives a session other limits than it began with.
func (s *session) setLimits(limits access.Limits) {
	s.mu.Lock()
	changed, watch := s.limits != limits, s.limiter
	s.limits = limits
	s.mu.Unlock()
	if changed && watch != nil {
		watch.look()
	}
}

func (s *session) currentLimits() access.Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// watchLimits ends the session when a limit is reached, until stop is called.
func (s *session) watchLimits(relay *pgwire.Relay) (stop func()) {
	watch := &limitWatch{
		now: s.agent.now, started: s.started, loginEnd: s.identity.LoginEnd(), lastClient: relay.LastClient,
		limits: s.currentLimits, notice: relay.Notice, end: s.end,
	}
	s.mu.Lock()
	s.limiter = watch
	s.mu.Unlock()
	watch.look() // limits that have changed before are seen here
	return watch.stop
}
