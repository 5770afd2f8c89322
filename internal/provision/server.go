package provision

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// Group is the role whose members are the managed accounts. Existing
// installations use this name.
const Group = "teleport-auto-user"

// Config describes one registered PostgreSQL server.
type Config struct {
	// Connect opens a connection to a logical database as the admin. The Server
	// owns the connection and closes it. Required.
	Connect func(ctx context.Context, database string) (*pgconn.PgConn, error)
	// AdminName is the database user that Connect logs in as. Hints name it. Required.
	AdminName string
	// DefaultDatabase is the logical database to do all work in. Empty means the
	// database of the session; the sweep then uses the last one, or postgres.
	DefaultDatabase string
	// ExtraRoles are granted to every database user beside its own roles: rds_iam.
	ExtraRoles []string
	// MaxConns bounds the admin connections open at once. Default 8.
	MaxConns int
	// IdleTimeout is how long an unused admin connection stays open. Default 5 minutes.
	IdleTimeout time.Duration
	// SweepInterval is the time between sweeps. Default 1 minute.
	SweepInterval time.Duration
	// Swept, if set, is called by Serve for each account that a sweep changed or
	// could not release; for the latter once for each reason. It must not block for long.
	Swept func(Outcome)
	// Replicas says that sessions run on replicas of the server that Connect reaches:
	// activations then reach the disk before they count, because only that is sent to
	// replicas, and every sweep connects anew, because another server may be the writer now.
	Replicas bool
	// ReplayTimeout bounds how long [Lease.Await] waits. Default 10 seconds.
	ReplayTimeout time.Duration
	// Scope tells the bundles of this registered server from those that other
	// clusters and registrations keep on the same PostgreSQL server.
	Scope string
	// BundleInterval is how often bundles in use are compared with policy and
	// schema. Default 3 seconds.
	BundleInterval time.Duration
	// BundleUnused is how long a bundle without database users is kept. Default 1 hour.
	BundleUnused time.Duration
	// BundleChanged, if set, is called by Serve for each bundle that it changed, or
	// could not keep equal to policy, and for each account with direct grants. What
	// fails is reported once for each reason. It must not block for long.
	BundleChanged func(BundleChange)
	// Frozen, if set, is asked before anything is written. While it returns an error,
	// activations fail with it, releases and sweeps leave everything as it is, and
	// running sessions go on.
	Frozen func() error
	// BundleNarrowed, if set, is called when a bundle has been found or made to hold
	// less than before: see [Lease.Lingers]. It must not block.
	BundleNarrowed func(role string, lost Loss)
	// Log receives what nobody waits for. Default: discarded.
	Log *slog.Logger
}

// Server provisions the accounts of one PostgreSQL server. Its methods may be
// called concurrently.
type Server struct {
	cfg      Config
	log      *slog.Logger
	pool     *pool
	accounts *accounts
	turns    turns
	bundles  *bundles
	counters counters
	backlog  backlog
	wake     chan struct{} // asks Serve for a sweep soon
	follow   chan struct{} // asks Serve to compare bundles with policy soon
}

// New checks cfg and returns a Server. It connects to nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Connect == nil || cfg.AdminName == "" {
		return nil, errors.New("provision: Connect and AdminName are required")
	}
	if err := checkRoles("", cfg.ExtraRoles); err != nil {
		return nil, err
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 8
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = 5 * time.Minute
	}
	if cfg.SweepInterval <= 0 {
		cfg.SweepInterval = time.Minute
	}
	if cfg.ReplayTimeout <= 0 {
		cfg.ReplayTimeout = 10 * time.Second
	}
	if cfg.BundleInterval <= 0 {
		cfg.BundleInterval = 3 * time.Second
	}
	if cfg.BundleUnused <= 0 {
		cfg.BundleUnused = time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Log, accounts: newAccounts(), turns: newTurns(), bundles: newBundles(), wake: make(chan struct{}, 1), follow: make(chan struct{}, 1)}
	s.pool = newPool(s.connect, cfg.MaxConns)
	return s, nil
}

// Warm opens an admin connection, so that the first session finds one. dbname is
// the session's database, used when there is no default database.
func (s *Server) Warm(ctx context.Context, dbname string) error {
	return s.withConn(ctx, s.database(dbname), func(conn *pgconn.PgConn) error {
		_, err := observe(ctx, conn, "", nil)
		return err
	})
}

// Close closes the admin connections. Call it after Serve and the last Release have returned.
func (s *Server) Close(ctx context.Context) error { return s.pool.close(ctx) }

// database returns the logical database to work in for a session's database.
func (s *Server) database(session string) string {
	if s.cfg.DefaultDatabase != "" {
		return s.cfg.DefaultDatabase
	}
	return session
}

// SweepSoon asks Serve for a sweep: something has changed that it can repair.
func (s *Server) SweepSoon() { s.sweepSoon() }

// frozen returns why nothing may be written now, or nil.
func (s *Server) frozen() error {
	if s.cfg.Frozen == nil {
		return nil
	}
	return s.cfg.Frozen()
}

// sweepSoon asks Serve for a sweep. Without Serve nothing happens.
func (s *Server) sweepSoon() {
	select {
	case s.wake <- struct{}{}:
	default: // asked already
	}
}

// PolicyChanged has Serve compare the bundles in use with policy at once. Without
// Serve nothing happens.
func (s *Server) PolicyChanged() {
	select {
	case s.follow <- struct{}{}:
	default: // asked already
	}
}

// connect opens an admin connection and prepares it for our queries.
func (s *Server) connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	conn, err := s.cfg.Connect(ctx, database)
	if err != nil {
		return nil, s.connectFault(database, err)
	}
	if err := prepare(ctx, conn); err != nil {
		_ = conn.Close(ctx) // the first error is the one to report
		return nil, fault.Newf(fault.Unavailable, "prepare the admin connection: %w", err)
	}
	return conn, nil
}
