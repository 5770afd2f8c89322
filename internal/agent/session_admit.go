package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/portmux"
)

const (
	// defaultAdmitTimeout bounds everything before a client is known: TLS, certificate
	// and start-up message. PostgreSQL's authentication_timeout is 60 s; a gateway that
	// strangers can reach is less patient.
	defaultAdmitTimeout = 15 * time.Second
	// maxEncryptionRequests is how often a client may ask for encryption inside TLS.
	maxEncryptionRequests = 2
)

// The application protocols of a database connection. Clients that send none are
// welcome too: libpq before 17 does not.
const (
	alpnPostern    = "postern-db"
	alpnTeleport   = "teleport-postgres"
	alpnPostgreSQL = "postgresql"
)

// admit finishes TLS, verifies the user certificate and reads the start-up
// message. A cancel request is served here and leaves s.startup nil. When serving
// ends, nobody is waited for who has not said yet who it is.
func (s *session) admit(serving, ctx context.Context) (err error) {
	defer s.recovered(&err)
	ctx, cancel := context.WithTimeout(ctx, s.agent.cfg.AdmitTimeout)
	defer cancel()
	if err := s.conn.SetDeadline(time.Now().Add(s.agent.cfg.AdmitTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(serving, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.conn.HandshakeContext(ctx); err != nil {
		return &silent{fmt.Errorf("TLS with the client: %w", err)}
	}
	startup, err := s.readStartup()
	if err != nil && serving.Err() != nil {
		return endShutdown()
	}
	if err != nil {
		return err
	}
	if startup.Kind == pgwire.CancelRequest {
		s.agent.cancel(ctx, s.conn, startup)
		return nil
	}
	s.startup = startup
	if err := s.proveIdentity(); err != nil {
		return err
	}
	if !stop() {
		return endShutdown()
	}
	portmux.Admit(s.conn)
	return s.conn.SetDeadline(time.Time{})
}

// readStartup answers requests for encryption, which the connection already has.
func (s *session) readStartup() (*pgwire.Startup, error) {
	for range maxEncryptionRequests + 1 {
		startup, err := pgwire.ReadStartup(s.conn)
		if err != nil {
			return nil, err
		}
		switch startup.Kind {
		case pgwire.StartupMessage, pgwire.CancelRequest:
			return startup, nil
		case pgwire.SSLRequest, pgwire.GSSENCRequest:
			if _, err := s.conn.Write([]byte{'N'}); err != nil {
				return nil, &silent{err}
			}
		}
	}
	return nil, fault.New(fault.Invalid, "received more than one SSLRequest")
}

// proveIdentity sets the identity from the certificate that TLS proved the client
// to hold, and from nothing else.
func (s *session) proveIdentity() error {
	state := s.conn.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return fault.New(fault.Unauthenticated, "a client certificate is needed to connect").
			WithHint("connect with: postern db connect, or get certificate files with: postern db login")
	}
	id, err := s.agent.cfg.VerifyUser(state.PeerCertificates)
	if err != nil {
		return err
	}
	if id.Route.IsZero() {
		return fault.New(fault.Unauthenticated, "this certificate is not for a database").
			WithHint("get one with: postern db login")
	}
	if err := checkServerName(state, id.Route.Database, s.agent.cfg.Cluster); err != nil {
		return err
	}
	s.identity = id
	s.log = s.log.With("user", id.User, "database", id.Route.Database)
	return nil
}

// checkServerName refuses a connection that was routed by another name than the
// certificate's. Names outside <database>.db.<cluster> route nothing.
func checkServerName(state tls.ConnectionState, database, cluster string) error {
	label, found := strings.CutSuffix(strings.ToLower(state.ServerName), strings.ToLower(".db."+cluster))
	if !found || label == strings.ToLower(database) {
		return nil
	}
	return fault.Newf(fault.Denied, "this certificate is for database %q, the connection is for %q", database, label).
		WithHint("get a certificate for it with: postern db login " + label)
}

// silent marks an error after which nobody is there to be told.
type silent struct{ error }

func (e *silent) Unwrap() error { return e.error }
