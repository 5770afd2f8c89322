package agent

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/pgwire"
)

// watched runs a limitWatch under a clock that jumps, and notes what it says when.
type watched struct {
	mu     sync.Mutex
	start  time.Time
	limits access.Limits // guarded by mu
	last   time.Time     // guarded by mu
	said   []string      // guarded by mu

	watch *limitWatch
	done  chan struct{} // closed when the session is ended
}

func watch(t *testing.T, limits access.Limits, loginEnds time.Duration) *watched {
	t.Helper()
	w := &watched{start: time.Now(), last: time.Now(), limits: limits, done: make(chan struct{})}
	say := func(e *pgwire.Error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		first, _, _ := strings.Cut(e.Message, " because ")
		w.said = append(w.said, strings.TrimSpace(time.Since(w.start).String()+" "+e.Severity+" "+e.Code+" "+first))
		if e.Hint == "" {
			t.Errorf("%q has no hint", e.Message)
		}
	}
	get := func() access.Limits {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.limits
	}
	lastClient := func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.last
	}
	w.watch = &limitWatch{
		now: time.Now, started: w.start, loginEnd: w.start.Add(loginEnds), lastClient: lastClient, limits: get, notice: say,
		end: func(e *pgwire.Error) {
			say(e)
			close(w.done)
		},
	}
	w.watch.look()
	return w
}

// after lets time pass and then does something to the session.
func (w *watched) after(d time.Duration, do func()) {
	time.Sleep(d)
	w.mu.Lock()
	do()
	w.mu.Unlock()
	w.watch.look()
}

// TestLimitsOfASession tells what a session is told, and when.
func TestLimitsOfASession(t *testing.T) {
	t.Parallel()
	const long = 30 * time.Hour
	for _, tt := range []struct {
		name   string
		limits access.Limits
		login  time.Duration
		events func(*watched)
		want   []string
	}{
		{
			"the certificate expires",
			access.Limits{MaxSessionTTL: long, DisconnectExpiredCert: true},
			8 * time.Hour, nil,
			[]string{"7h55m0s NOTICE 00000 this session ends in 5m0s", "8h0m0s FATAL 57P01 client certificate expired at 2000-01-01T08:00:00Z"},
		},
		{
			"the certificate expires, which does not matter",
			access.Limits{MaxSessionTTL: 10 * time.Hour},
			8 * time.Hour, nil,
			[]string{"9h55m0s NOTICE 00000 this session ends in 5m0s", "10h0m0s FATAL 57P01 terminating connection"},
		},
		{
			"both, the shorter counts",
			access.Limits{MaxSessionTTL: time.Hour, DisconnectExpiredCert: true},
			8 * time.Hour, nil,
			[]string{"55m0s NOTICE 00000 this session ends in 5m0s", "1h0m0s FATAL 57P01 terminating connection"},
		},
		{
			"there are no five minutes",
			access.Limits{MaxSessionTTL: 2 * time.Minute},
			8 * time.Hour, nil,
			[]string{"0s NOTICE 00000 this session ends in 2m0s", "2m0s FATAL 57P01 terminating connection"},
		},
		{
			"it has expired already",
			access.Limits{MaxSessionTTL: long, DisconnectExpiredCert: true},
			-time.Second, nil,
			[]string{"0s FATAL 57P01 client certificate expired at 1999-12-31T23:59:59Z"},
		},
		{
			"idle from the beginning",
			access.Limits{MaxSessionTTL: long, ClientIdleTimeout: 10 * time.Minute},
			8 * time.Hour, nil,
			[]string{"10m0s FATAL 57P05 Client exceeded idle timeout of 10m0s"},
		},
		{
			"idle after some work",
			access.Limits{MaxSessionTTL: long, ClientIdleTimeout: 10 * time.Minute},
			8 * time.Hour,
			func(w *watched) {
				for range 5 {
					w.after(9*time.Minute, func() { w.last = time.Now() })
				}
			},
			[]string{"55m0s FATAL 57P05 Client exceeded idle timeout of 10m0s"},
		},
		{
			"busy up to the end",
			access.Limits{MaxSessionTTL: time.Hour, ClientIdleTimeout: 10 * time.Minute},
			8 * time.Hour,
			func(w *watched) {
				for range 6 {
					w.after(9*time.Minute+30*time.Second, func() { w.last = time.Now() })
				}
			},
			[]string{"55m0s NOTICE 00000 this session ends in 5m0s", "1h0m0s FATAL 57P01 terminating connection"},
		},
		{
			"policy becomes stricter",
			access.Limits{MaxSessionTTL: long},
			8 * time.Hour,
			func(w *watched) {
				w.after(2*time.Hour, func() { w.limits.MaxSessionTTL = 3 * time.Hour })
				w.after(0, func() { w.limits.ClientIdleTimeout = 4 * time.Hour })
			},
			[]string{"2h55m0s NOTICE 00000 this session ends in 5m0s", "3h0m0s FATAL 57P01 terminating connection"},
		},
		{
			"policy becomes stricter than what was",
			access.Limits{MaxSessionTTL: long},
			8 * time.Hour,
			func(w *watched) { w.after(2*time.Hour, func() { w.limits.MaxSessionTTL = time.Hour }) },
			[]string{"2h0m0s FATAL 57P01 terminating connection"},
		},
		{
			"policy becomes milder after the notice",
			access.Limits{MaxSessionTTL: time.Hour},
			8 * time.Hour,
			func(w *watched) { w.after(57*time.Minute, func() { w.limits.MaxSessionTTL = 2 * time.Hour }) },
			[]string{"55m0s NOTICE 00000 this session ends in 5m0s", "1h55m0s NOTICE 00000 this session ends in 5m0s", "2h0m0s FATAL 57P01 terminating connection"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, tt.limits, tt.login)
				if tt.events != nil {
					tt.events(w)
				}
				<-w.done
				if diff := cmp.Diff(tt.want, w.said); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestLimitsLetASessionEnd: nothing is said after it.
func TestLimitsLetASessionEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, access.Limits{MaxSessionTTL: time.Hour}, time.Hour)
		w.after(30*time.Minute, w.watch.stop)
		time.Sleep(24 * time.Hour)
		if len(w.said) > 0 {
			t.Errorf("said %v", w.said)
		}
	})
}
