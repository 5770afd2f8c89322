package agent

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
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
// The client is told neither.
func (s *Server) cancel(ctx context.Context, conn net.Conn, req *pgwire.Startup) {
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	if _, err := s.cancels.Cancel(ctx, conn.RemoteAddr(), req.PID, req.Secret); err != nil {
		s.log.Warn("cancel request not carried out", "addr", conn.RemoteAddr().String(), "error", fault.Chain(err))
	}
}

// cancelLimiter counts cancel requests by the host they come from.
type cancelLimiter struct {
	mu     sync.Mutex // guards the fields below
	since  time.Time
	counts map[string]int
	all    int
}

// allow reports whether the request is within bounds. Everybody beyond the table
// of sources shares one count.
func (l *cancelLimiter) allow(from net.Addr) bool {
	host := from.String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.counts == nil || now.Sub(l.since) >= cancelWindow {
		l.since, l.counts, l.all = now, map[string]int{}, 0
	}
	if _, known := l.counts[host]; !known && len(l.counts) >= maxCancelSources {
		host = ""
	}
	l.counts[host]++
	l.all++
	return l.counts[host] <= cancelsPerSource && l.all <= cancelsAltogether
}
