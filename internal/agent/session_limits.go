package agent

import (
	"context"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/pgwire"
)

// noticeBefore is how long before its planned end a person is told of it.
const noticeBefore = 5 * time.Minute

// limitWatch ends a session when its login expires, when it has lasted as long as
// policy allows, or when its client has been idle for too long. All but the last
// can be foreseen, and are announced.
type limitWatch struct {
	now        func() time.Time
	started    time.Time
	loginEnd   time.Time
	lastClient func() time.Time // when the client last sent something
	limits     func() access.Limits
	changed    <-chan struct{} // gets a value when there are other limits

	notice, end func(*pgwire.Error)
}

// run returns when it has ended the session, or ctx ends.
func (w limitWatch) run(ctx context.Context) {
	var announced time.Time // the end that the person was told of
	for {
		limits, now := w.limits(), w.now()
		at, why := w.planned(limits)
		next, reason := at, why
		if limits.ClientIdleTimeout > 0 {
			if idle := w.lastClient().Add(limits.ClientIdleTimeout); idle.Before(at) {
				next, reason = idle, endIdle(limits.ClientIdleTimeout)
			}
		}
		if !now.Before(next) {
			w.end(reason)
			return
		}
		if !at.Equal(announced) {
			if remind := at.Add(-noticeBefore); now.Before(remind) {
				next = earlier(next, remind)
			} else {
				w.notice(noticeEnding(at.Sub(now), why))
				announced = at
			}
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-w.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// planned returns when the session has to end whatever its client does, and why.
func (w limitWatch) planned(limits access.Limits) (time.Time, *pgwire.Error) {
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
	changed := s.limits != limits
	s.limits = limits
	s.mu.Unlock()
	if !changed {
		return
	}
	select {
	case s.limitsChanged <- struct{}{}:
	default: // it will be seen together with the change before
	}
}

func (s *session) currentLimits() access.Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// watchLimits ends the session when a limit is reached.
func (s *session) watchLimits(ctx context.Context, relay *pgwire.Relay) {
	limitWatch{
		now: s.agent.now, started: s.started, loginEnd: s.identity.LoginEnd(), lastClient: relay.LastClient,
		limits: s.currentLimits, changed: s.limitsChanged, notice: relay.Notice, end: s.end,
	}.run(ctx)
}
