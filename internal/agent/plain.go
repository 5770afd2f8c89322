package agent

import (
	"context"
	"net"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
)

// plainTimeout bounds a connection without TLS, which has one packet to send.
const plainTimeout = 5 * time.Second

// handlePlain serves a connection that does not begin with TLS. A cancel request
// may: libpq before 17 sends it in clear even for a session over TLS, and its
// secret is ours and good for nothing else. A session may not.
func (s *Server) handlePlain(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(plainTimeout)); err != nil {
		return
	}
	startup, err := pgwire.ReadStartup(conn)
	switch {
	case err != nil:
		s.log.Debug("connection without TLS refused", "addr", conn.RemoteAddr().String(), "error", fault.Chain(err))
	case startup.Kind == pgwire.CancelRequest:
		s.cancel(ctx, conn, startup)
	default:
		_ = pgwire.WriteError(conn, pgwire.Refusal(fault.New(fault.Unauthenticated, "this server takes connections over TLS only").
			WithHint("connect with: postern db connect, or with sslmode=verify-full and the files that postern db login writes")))
		_ = pgwire.CloseClient(conn)
	}
}
