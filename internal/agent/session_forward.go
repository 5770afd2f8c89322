package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/postern-db/postern/internal/pgwire"
)

// forward relays until the session ends, for whatever reason.
func (s *session) forward(ctx context.Context) (err error) {
	defer s.recovered(&err)
	relay, err := s.newRelay(ctx)
	if err != nil {
		return err
	}
	unwatch := s.watch(ctx, relay)
	result := relay.Run(ctx)
	unwatch()
	return whyEnded(result)
}

// watch follows what may end or change the session meanwhile, until stop is called.
func (s *session) watch(ctx context.Context, relay *pgwire.Relay) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	if s.lease != nil {
		s.following.begin(ctx, s.followPolicy)
	}
	var anchor sync.WaitGroup
	if s.anchor != nil {
		anchor.Go(func() { s.watchAnchor(ctx) })
	}
	stopLimits := s.watchLimits(relay)
	return func() {
		stopLimits()
		cancel()
		s.following.end()
		anchor.Wait()
	}
}

// newRelay returns what carries the session, with statements put on record as policy wants.
func (s *session) newRelay(ctx context.Context) (*pgwire.Relay, error) {
	observe, err := s.observe(ctx)
	if err != nil {
		return nil, err
	}
	return pgwire.NewRelay(pgwire.RelayConfig{Client: s.conn, Server: s.server, Observe: observe}), nil
}

// whyEnded returns nil for a session that ended with a goodbye of its client.
func whyEnded(r pgwire.Result) error {
	switch {
	case r.By == pgwire.ByClient && (errors.Is(r.Err, syscall.ECONNRESET) || errors.Is(r.Err, syscall.EPIPE)):
		return &silent{fmt.Errorf("%w: %w", pgwire.ErrNoGoodbye, r.Err)}
	case r.By == pgwire.ByClient && r.Err != nil:
		return &silent{r.Err}
	case r.Err != nil || r.Goodbye:
		return r.Err
	case r.By == pgwire.ByServer:
		return errors.New("the server closed the connection")
	}
	return &silent{pgwire.ErrNoGoodbye}
}
