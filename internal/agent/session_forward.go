package agent

import (
	"context"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/pgwire"
)

// forward relays until the session ends, for whatever reason.
func (s *session) forward(ctx context.Context) error {
	observe, err := s.observe(ctx)
	if err != nil {
		return err
	}
	relay := pgwire.NewRelay(pgwire.RelayConfig{Client: s.conn, Server: s.server, Observe: observe})
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.watchLimits(ctx, relay) })
	if s.lease != nil {
		watch.Go(func() { s.takeOffers(ctx) })
	}
	result := relay.Run(ctx)
	stop()
	watch.Wait()
	if result.By == pgwire.ByClient && result.Err != nil {
		return &silent{result.Err}
	}
	return result.Err
}

// watchLimits ends the session when its certificate expires or its client has
// been idle for too long, where policy says so.
func (s *session) watchLimits(ctx context.Context, relay *pgwire.Relay) {
	limits := s.decision.Limits
	var expiry time.Time
	if limits.DisconnectExpiredCert {
		expiry = s.identity.LoginEnd()
	}
	if expiry.IsZero() && limits.ClientIdleTimeout == 0 {
		return
	}
	for {
		now := s.agent.now()
		next := expiry
		if limits.ClientIdleTimeout > 0 {
			if idle := relay.LastClient().Add(limits.ClientIdleTimeout); next.IsZero() || idle.Before(next) {
				next = idle
			}
		}
		if !now.Before(next) {
			break
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
	if !expiry.IsZero() && !s.agent.now().Before(expiry) {
		s.end(endExpired(expiry))
		return
	}
	s.end(endIdle(limits.ClientIdleTimeout))
}
