// Package hub is the public part: the certificate authorities, sign-in, the
// resources, the API and the one public port.
//
// [New] opens the state of the cluster, which makes its authorities on first
// start. [Server.Serve] runs until its context ends. Database connections that
// arrive at the public port are handed on untouched through
// [Server.DatabaseListener]; the hub sees their TLS server name and no more.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/portmux"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/signin"
	"github.com/postern-db/postern/internal/store"
)

// Config says how a hub runs. Every field without a default is required.
type Config struct {
	Cluster    string // name of the cluster; cannot change after the first start
	PublicAddr string // host:port under which clients reach the hub
	Version    string // of this program
	Parts      []string

	Store store.Store
	Audit *audit.Log
	// AuditDir is where Audit writes, for those who read it.
	AuditDir string
	// Listener is the public port. Serve closes it.
	Listener net.Listener
	// Control is the socket of the hub's owner. Serve closes it.
	Control net.Listener
	// Certificate is shown to clients that ask for a name it covers; nil: only the
	// certificate of the host CA is shown.
	Certificate func() (*Certificate, error)

	// Proxies are the load balancers in front of the public port, which say with the
	// PROXY protocol who they connect for. Connections from them without are refused.
	Proxies []netip.Prefix
	// MaxHalfOpen and MaxPerSource bound the connections to the public port of which
	// nobody has proven who they are; zero means the defaults of portmux.
	MaxHalfOpen, MaxPerSource int

	Log *slog.Logger     // default discards
	Now func() time.Time // default time.Now
}

// Registered is a database that an agent serves, with its labels as they are now.
type Registered struct {
	Database *resource.Database
	Labels   map[string]string
}

// Agents is what the hub knows of the agents that serve its databases.
type Agents interface {
	Registered() []Registered     // sorted by name
	Health() []api.DatabaseHealth // sorted by name
	Sessions() int                // open now
	// Unserved says why no agent serves a registered database; empty: one does, or
	// is about to.
	Unserved(*resource.Database) string
	// Discover returns what discovery would register now. Errors have a kind.
	Discover(ctx context.Context) ([]api.DiscoverySearch, error)
	// Doctor examines the server of a database. Errors have a kind.
	Doctor(ctx context.Context, database string, handouts []api.Handout) ([]api.Finding, error)
	// Drift compares what is on the server of a database with policy. Errors have a kind.
	Drift(ctx context.Context, database string) ([]api.Deviation, error)
	// Plan shows what provisioning would do for a session. Errors have a kind.
	Plan(ctx context.Context, q api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error)
}

// Server is a hub. Its methods are safe for concurrent use.
type Server struct {
	cfg    Config
	log    *slog.Logger
	now    func() time.Time
	cas    authorities
	views  *views
	signin *signin.Passwords
	mux    *portmux.Mux
	own    *ca.Leaf

	users  *ca.UserVerifier
	agents Agents // set by Serve, before anything is served
}

// New opens the cluster in cfg.Store. It starts nothing. A cluster name that is
// not the one of the store is Invalid.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Cluster == "" || cfg.Store == nil || cfg.Audit == nil || cfg.Listener == nil || cfg.Control == nil {
		return nil, errors.New("hub: a required part of the configuration is missing")
	}
	s := &Server{cfg: cfg, log: cfg.Log, now: cfg.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.cas, err = openCluster(ctx, cfg.Store, cfg.Cluster, s.now); err != nil {
		return nil, err
	}
	if s.views, err = openViews(ctx, cfg.Store); err != nil {
		return nil, err
	}
	if s.signin, err = signin.New(signin.Config{Records: signinRecords{cfg.Store}, Now: s.now, Log: s.log}); err != nil {
		return nil, err
	}
	s.mux, err = portmux.New(portmux.Config{
		Listener: cfg.Listener, Log: s.log, Proxies: cfg.Proxies, MaxHalfOpen: cfg.MaxHalfOpen, MaxPerSource: cfg.MaxPerSource,
		Route: portmux.StandardRoute(cfg.Cluster, databaseTarget, webTarget),
	})
	if err != nil {
		return nil, err
	}
	s.own = s.ownCertificate()
	s.users = ca.NewUserVerifier(ca.UserRoots{}.With(cfg.Cluster, s.cas.user.Certificate()))
	return s, nil
}

// The targets of the public port.
const (
	databaseTarget = "database"
	webTarget      = "web"
)

// CAPin returns the pin of the host CA, by which clients know the hub.
func (s *Server) CAPin() string { return s.cas.host.Pin() }

// View returns the current resources and a channel that is closed when there are
// newer ones.
func (s *Server) View() (*View, <-chan struct{}) { return s.views.get() }

// DatabaseListener returns the database connections that arrive at the public
// port. Call it before Serve.
func (s *Server) DatabaseListener() net.Listener { return s.mux.Listener(databaseTarget) }

// Serve runs the hub until ctx ends. agents is asked for what agents know.
func (s *Server) Serve(ctx context.Context, agents Agents) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.agents = agents
	mux := http.NewServeMux()
	s.routes(mux)

	web := s.server(ctx, withCaller(s.webCaller, mux))
	web.TLSConfig = s.tlsConfig(ctx)
	web.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	control := s.server(ctx, withCaller(func(r *http.Request) caller { return caller{owner: true, addr: "control socket"} }, mux))

	conns := s.mux.Listener(webTarget) // before the port is served: what has no target is refused
	var parts parts
	parts.run(cancel, "public port", func() error { return s.mux.Serve(ctx) })
	parts.run(cancel, "web server", func() error { return web.ServeTLS(conns, "", "") })
	parts.run(cancel, "control socket", func() error { return control.Serve(s.cfg.Control) })
	parts.Go(func() {
		s.views.watch(ctx, func(err error) { s.log.Error("resources not read", "error", fault.Chain(err)) })
	})

	<-ctx.Done()
	s.shutDown(ctx, web, control)
	parts.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
