package agent

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/portmux"
)

// Bounds on cancel requests. The secret of protocol 3.0 has 32 bits and process
// ids are few, so guessing must be slow; a person pressing Ctrl-C is slower still.
const (
	cancelTimeout     = 10 * time.Second
	cancelsPerSource  = 50 // within cancelWindow
	cancelWindow      = time.Second
	maxCancelSources  = 10_000
	cancelsAltogether = 500 // within cancelWindow, all sources
)

// cancel serves a CancelRequest: its key finds the session, or nothing happens.
// The client is told neither, nor that it asks too often. It does see when the
// request was handled, as with PostgreSQL: libpq waits for that, so that the request
// cannot hit the next statement.
func (s *Server) cancel(ctx context.Context, conn net.Conn, req *pgwire.Startup) {
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	if _, err := s.cancels.Cancel(ctx, conn.RemoteAddr(), req.PID, req.Secret); err != nil {
		s.log.Warn("cancel request not carried out", "addr", conn.RemoteAddr().String(), "error", fault.Chain(err))
	}
}

// allowCancel asks the limiter, and counts what it refuses.
func (s *Server) allowCancel(from net.Addr) bool {
	allowed := s.guesses.allow(from)
	if !allowed {
		s.metrics.cancels.Inc()
	}
	return allowed
}

// cancelLimiter counts cancel requests by the source they come from.
type cancelLimiter struct {
	now func() time.Time

	mu     sync.Mutex // guards the fields below
	since  time.Time
	counts map[netip.Prefix]int
	all    int
}

// allow reports whether the request is within bounds. Everybody beyond the table
// of sources shares one count.
func (l *cancelLimiter) allow(from net.Addr) bool {
	source := portmux.SourceOf(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); l.counts == nil || now.Sub(l.since) >= cancelWindow {
		l.since, l.counts, l.all = now, map[netip.Prefix]int{}, 0
	}
	if _, known := l.counts[source]; !known && len(l.counts) >= maxCancelSources {
		source = netip.Prefix{}
	}
	if l.counts[source]++; l.counts[source] > cancelsPerSource {
		return false // and takes nothing from the others
	}
	l.all++
	return l.all <= cancelsAltogether
}
