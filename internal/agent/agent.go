package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// View is what the hub's resources say at one moment. It does not change.
type View interface {
	// Decisions are the roles, compiled.
	Decisions() *access.Policy
	// User returns a user of this cluster.
	User(name string) (*resource.User, bool)
	// Users returns all users, sorted by name.
	Users() []*resource.User
	// Databases returns the registered databases.
	Databases() []*resource.Database
	// Frozen says why automatic users of a database are switched off; nil when they are not.
	Frozen(database string) *api.Freeze
}

// Config says what an agent serves and whom it asks. Every field without a
// default is required.
type Config struct {
	Cluster string // name of the own cluster

	// Static are the databases of the configuration file. They win over
	// registered ones of the same name.
	Static []*resource.Database
	// Selects returns a registered database as this agent serves it, or nil where it
	// does not; nil: it serves none.
	Selects func(*resource.Database) *resource.Database

	// Discovered returns databases that were found by themselves, and a channel that
	// is closed when there are newer ones. They win over registered ones of the same
	// name. Nil: there are none.
	Discovered func() ([]*resource.Database, <-chan struct{})

	// View returns the current resources and a channel that is closed when there
	// are newer ones.
	View func() (View, <-chan struct{})
	// VerifyUser returns who a client's certificates speak for, or Unauthenticated.
	VerifyUser func([]*x509.Certificate) (identity.Identity, error)
	// DatabaseRoots returns the db authority, which signs the certificates of
	// self-hosted servers.
	DatabaseRoots func() []*x509.Certificate
	// IssueHost issues the certificate that clients see, the chain leaf first.
	IssueHost func(ctx context.Context, pub crypto.PublicKey) ([]*x509.Certificate, error)
	// IssueClient issues the certificate that PostgreSQL sees.
	IssueClient func(ctx context.Context, databaseUser string, pub crypto.PublicKey, ttl time.Duration) ([]*x509.Certificate, error)

	// AWS is Amazon's cloud; default: as this machine reaches it.
	AWS *aws.Cloud

	Audit *audit.Log
	Log   *slog.Logger     // default discards
	Now   func() time.Time // default time.Now

	// AdmitTimeout is how long a client may take until it is known who it is; zero
	// means 15 s.
	AdmitTimeout time.Duration
	// SweepInterval is how often leftovers are looked for; zero means the default of
	// the provision package.
	SweepInterval time.Duration
	// ReplayTimeout bounds how long a session waits for its replica; zero means the
	// default of the provision package.
	ReplayTimeout time.Duration
	// DrainTimeout bounds how long Serve waits for sessions to end properly after
	// its context has ended; zero means 20 s.
	DrainTimeout time.Duration
}

// Server is an agent. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	host    *ca.Leaf
	clients *clientCertificates
	metrics *metrics
	cancels pgwire.CancelKeys
	guesses cancelLimiter

	recorder *recorder

	labels   chan struct{} // tells that labels of a database have changed; holds one
	relabels atomic.Int64  // counts these changes

	refreshing sync.Mutex      // held while the served databases are brought up to date; before mu; guards the next two
	newerView  <-chan struct{} // closed when there are newer resources than those served
	newerFound <-chan struct{} // the same of discovered databases; nil when nothing is discovered

	mu        sync.Mutex // guards the fields below
	databases map[string]*database
	sessions  map[*session]struct{}
	draining  bool
	running   sync.WaitGroup // connections being handled
	closing   sync.WaitGroup // databases being given up
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Cluster == "":
		return nil, errors.New("agent: no cluster name")
	case cfg.View == nil || cfg.VerifyUser == nil || cfg.DatabaseRoots == nil || cfg.IssueHost == nil || cfg.IssueClient == nil:
		return nil, errors.New("agent: a function of the hub is missing")
	case cfg.Audit == nil:
		return nil, errors.New("agent: no audit log")
	}
	s := &Server{cfg: cfg, log: cfg.Log, now: cfg.Now, metrics: newMetrics(), recorder: newRecorder(cfg.Audit), databases: map[string]*database{}, sessions: map[*session]struct{}{}, labels: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.cfg.Discovered == nil {
		s.cfg.Discovered = func() ([]*resource.Database, <-chan struct{}) { return nil, nil }
	}
	if s.cfg.AWS == nil {
		s.cfg.AWS = aws.New(aws.Config{})
	}
	if s.cfg.AdmitTimeout == 0 {
		s.cfg.AdmitTimeout = defaultAdmitTimeout
	}
	if s.cfg.DrainTimeout == 0 {
		s.cfg.DrainTimeout = 20 * time.Second
	}
	s.host = &ca.Leaf{Issue: cfg.IssueHost, Now: s.now}
	s.clients = &clientCertificates{issue: cfg.IssueClient, now: s.now}
	s.guesses.now = s.now
	s.cancels.Allow = s.allowCancel
	return s, nil
}

// Serve accepts database connections from ln, TLS not yet begun, until ctx ends.
// Then it refuses new sessions, ends the open ones with 57P01, waits until their
// database users are released, and returns nil. It closes ln. It calls ready when
// the databases are served.
func (s *Server) Serve(ctx context.Context, ln net.Listener, ready func()) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var follow sync.WaitGroup
	s.refresh(background)
	follow.Go(func() { s.followResources(background) })
	follow.Go(func() { s.recorder.run(background) })
	ready()
	closing := context.AfterFunc(ctx, func() { ln.Close() })
	defer closing()

	err := s.accept(ctx, background, ln)
	s.drain()
	stop()
	follow.Wait()
	s.stopDatabases(ctx)
	return err
}

func (s *Server) accept(ctx, background context.Context, ln net.Listener) error {
	clients := s.tlsConfig(background)
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept database connections: %w", err)
		}
		s.running.Go(func() { s.handle(ctx, background, conn, clients) })
	}
}

// drain ends every session and waits for it, at most DrainTimeout.
func (s *Server) drain() {
	s.mu.Lock()
	s.draining = true
	for sess := range s.sessions {
		sess.end(endShutdown())
	}
	open := len(s.sessions)
	s.mu.Unlock()
	if open > 0 {
		s.log.Info("ending sessions", "sessions", open)
	}
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(s.cfg.DrainTimeout):
		s.log.Error("sessions did not end in time; the next start releases their database users")
	}
}

// enter registers a session so that shutdown can end it. It reports false when
// the agent is shutting down.
func (s *Server) enter(sess *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.sessions[sess] = struct{}{}
	return true
}

func (s *Server) leave(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess)
}

// Sessions returns how many database sessions are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// tlsConfig is what clients meet. Their certificate is asked for but verified by
// us after the handshake, so that whoever has none, or an expired one, reads why.
func (s *Server) tlsConfig(ctx context.Context) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{alpnPostern, alpnTeleport, alpnPostgreSQL},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.host.Get(ctx)
		},
		// The database is verified by the certificate on each connection; a resumed
		// session would carry the certificate of an earlier one.
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // fewer records, and large results come in large ones
	}
}
