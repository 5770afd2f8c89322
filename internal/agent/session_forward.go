package agent

import (
	"context"
	"errors"
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
		watch.Go(func() { s.followPolicy(ctx) })
	}
	if s.anchor != nil {
		watch.Go(func() { s.watchAnchor(ctx) })
	}
	result := relay.Run(ctx)
	stop()
	watch.Wait()
	return whyEnded(result)
}

// whyEnded returns nil for a session that ended with a goodbye of its client. On a
// way that was cut, TCP's end of file may be all that is seen.
func whyEnded(r pgwire.Result) error {
	switch {
	case r.By == pgwire.ByClient && r.Err != nil:
		return &silent{r.Err}
	case r.Err != nil || r.Goodbye:
		return r.Err
	case r.By == pgwire.ByServer:
		return errors.New("the server closed the connection")
	}
	return &silent{errors.New("the client closed the connection without a goodbye")}
}
