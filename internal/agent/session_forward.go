package agent

import (
	"context"
	"sync"

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
