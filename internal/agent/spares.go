package agent

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
)

const (
	// spareLife is how long a spare connection waits for a session. PostgreSQL hangs up
	// on a connection that has not said who it is after authentication_timeout, 60 s.
	spareLife = 20 * time.Second
	// maxSpares bounds the spare connections to one server. Beyond it none is made, so
	// that a crowd of people who connect once each costs no more than that.
	maxSpares = 8
	// spareLoginTimeout bounds a login over a spare connection; then a new one is tried.
	spareLoginTimeout = 10 * time.Second
)

// spares are connections to a server that are set up to the end of TLS before
// anybody asks for them, at most one for each database user: whoever connects
// again soon does not wait for a new process of PostgreSQL and for TLS with it.
//
// A spare connection gives no right. It has shown a certificate, but no user name:
// PostgreSQL decides who is let in when the session that takes it logs in. It
// serves the database user of its certificate only, and goes when it gets old,
// when that certificate is replaced, and when the server hangs up.
// docs/decisions/0013 has the reasons.
type spares struct {
	// dial returns a connection and the certificate that it has shown.
	dial   func(ctx context.Context, databaseUser string) (*pgwire.ServerConn, *tls.Certificate, error)
	life   time.Duration
	wanted chan string // database users whose spare connection was used up

	mu   sync.Mutex        // guards the field below
	held map[string]*spare // by database user; nil while it is being made
}

// spare is a connection that waits. Its keeper owns it until it has given it away.
type spare struct {
	cert  *tls.Certificate
	wake  context.CancelFunc      // tells the keeper that it was taken
	given chan *pgwire.ServerConn // holds one; nil is a connection lost at the last moment
}

func newSpares(dial func(context.Context, string) (*pgwire.ServerConn, *tls.Certificate, error)) *spares {
	return &spares{dial: dial, life: spareLife, wanted: make(chan string, maxSpares), held: map[string]*spare{}}
}

// want asks for a spare connection of a database user. It does not wait; where too
// many are asked for at once, some are not made.
func (s *spares) want(databaseUser string) {
	select {
	case s.wanted <- databaseUser:
	default:
	}
}

// serve makes and keeps what is wanted until ctx ends, and closes all of it then.
func (s *spares) serve(ctx context.Context, log *slog.Logger) {
	var keepers sync.WaitGroup
	defer keepers.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case databaseUser := <-s.wanted:
			if !s.reserve(databaseUser) {
				continue
			}
			keepers.Go(func() {
				log := log.With("database_user", databaseUser)
				if err := s.keep(ctx, databaseUser, log); err != nil {
					log.Debug("spare connection lost", "error", fault.Chain(err))
				}
			})
		}
	}
}

// reserve notes that a spare connection is being made, unless there is one or
// there are too many.
func (s *spares) reserve(databaseUser string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[databaseUser]; ok || len(s.held) >= maxSpares {
		return false
	}
	s.held[databaseUser] = nil
	return true
}

// keep makes a spare connection and waits until it is taken or of no use any more.
func (s *spares) keep(ctx context.Context, databaseUser string, log *slog.Logger) error {
	dialling, cancel := context.WithTimeout(ctx, connectTimeout)
	conn, cert, err := s.dial(dialling, databaseUser)
	cancel()
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, databaseUser)
		return err
	}
	waiting, wake := context.WithTimeout(ctx, s.life)
	defer wake()
	it := &spare{cert: cert, wake: wake, given: make(chan *pgwire.ServerConn, 1)}
	s.mu.Lock()
	s.held[databaseUser] = it
	s.mu.Unlock()
	log.Debug("spare connection ready")
	err = conn.Idle(waiting)
	s.mu.Lock()
	taken := s.held[databaseUser] != it
	if !taken {
		delete(s.held, databaseUser)
	}
	s.mu.Unlock()
	if taken && err == nil {
		it.given <- conn
		return nil
	}
	it.given <- nil
	conn.Close()
	return err
}

// take returns the spare connection of a database user if it has shown cert and is
// alive, else nil.
func (s *spares) take(databaseUser string, cert *tls.Certificate) *pgwire.ServerConn {
	s.mu.Lock()
	it := s.held[databaseUser]
	if it != nil {
		delete(s.held, databaseUser)
	}
	s.mu.Unlock()
	if it == nil {
		return nil
	}
	it.wake()
	conn := <-it.given
	if conn != nil && it.cert != cert {
		conn.Close()
		return nil
	}
	return conn
}
