package agent

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// maxProtocolMinor is the newest minor protocol version asked of PostgreSQL: 3.2
// brings cancel keys too long to be guessed.
const maxProtocolMinor = 2

// database is one registered server while this agent serves it.
type database struct {
	resource    *resource.Database
	dialing     pgwire.DialConfig  // TLS without a client certificate
	writer      *pgwire.DialConfig // of a replica; nil where none is known
	elsewhere   atomic.Bool        // admin connections were last made to the writer
	credentials credentials
	unsupported error             // why nobody can connect; nil for every server that we know how to log in to
	provisioner *provision.Server // nil where no database user can be created
	groups      pgwire.GroupMemory
	last        pgwire.HostMemory
	labels      labels

	stop     context.CancelFunc // ends the background work
	work     sync.WaitGroup     // background work
	sessions sync.WaitGroup     // sessions that may still need the provisioner

	traits    serverTraits
	wasFrozen atomic.Bool // when the resources were looked at last
	spares    *spares
	machines  machines

	mu     sync.Mutex // guards the fields below
	health api.DatabaseHealth
}

// newDatabase prepares a server; it connects to nothing. The error is Invalid.
func (s *Server) newDatabase(ctx context.Context, r *resource.Database) (*database, error) {
	d := &database{resource: r, health: api.DatabaseHealth{Name: r.GetName(), Status: "unknown"}}
	if err := s.checkSecretCommand(r); err != nil {
		return nil, err
	}
	d.spares = newSpares(d.dialShown)
	d.machines.life = machineLife
	d.labels = labels{static: r.Labels(), known: make(chan struct{}), changed: s.relabelled}
	if d.unsupported = unsupported(r); d.unsupported != nil {
		return d, nil
	}
	d.credentials = s.credentialsOf(r)
	endpoint, err := r.Endpoint()
	if err != nil {
		return nil, err
	}
	d.dialing = pgwire.DialConfig{Kind: pgwire.ServerKind(endpoint.Target), Timeout: endpoint.ConnectTimeout, Groups: &d.groups, Last: &d.last}
	for _, h := range endpoint.Hosts {
		d.dialing.Hosts = append(d.dialing.Hosts, h.Address())
	}
	if d.dialing.Plain = plainTo(r); d.dialing.Plain == pgwire.PlainNowhere {
		if d.dialing.TLS, err = serverTLS(r, s.cfg.DatabaseRoots(), s.cfg.AWS); err != nil {
			return nil, err
		}
	}
	if err := d.setWriter(); err != nil {
		return nil, err
	}
	admin, defaultDatabase := r.AdminUser()
	if admin == "" || !r.CanProvision() {
		return d, nil
	}
	d.provisioner, err = provision.New(provision.Config{
		Connect:         d.connectAdmin,
		AdminName:       admin,
		DefaultDatabase: defaultDatabase,
		Replicas:        d.writer != nil,
		ReplayTimeout:   s.cfg.ReplayTimeout,
		ExtraRoles:      d.credentials.roles(r),
		Scope:           s.scope(r.GetName()),
		BundleChanged:   func(c provision.BundleChange) { s.bundleChanged(ctx, d, c) },
		BundleNarrowed:  s.bundleNarrowed,
		SweepInterval:   s.cfg.SweepInterval,
		Swept:           func(o provision.Outcome) { s.swept(ctx, d, o) },
		Frozen:          func() error { return s.frozen(r.GetName()) },
		Log:             s.log.With(slog.String("database", r.GetName())),
	})
	return d, err
}

// checkSecretCommand refuses a command in a registered database: who may register
// databases must not thereby run programs as the agent.
func (s *Server) checkSecretCommand(r *resource.Database) error {
	if len(r.Spec.AdminUser.PasswordCommand) == 0 || slices.Contains(s.cfg.Static, r) {
		return nil
	}
	return fault.Newf(fault.Invalid, "database %q: password_command is for databases of the configuration file only", r.GetName()).
		WithHint("move the database there, or use password_file or password_env")
}

// start begins the background work: dynamic labels, health, spare connections,
// sweeping.
func (d *database) start(ctx context.Context, log *slog.Logger, now func() time.Time) {
	ctx, d.stop = context.WithCancel(ctx)
	d.labels.follow(ctx, &d.work, d.resource.Spec.DynamicLabels, log.With("database", d.resource.GetName()))
	d.work.Go(func() { d.watchHealth(ctx, now) })
	d.work.Go(func() { d.spares.serve(ctx, log.With("database", d.resource.GetName())) })
	if d.writer != nil {
		d.work.Go(func() { d.machines.serve(ctx) })
	}
	if d.provisioner != nil {
		d.work.Go(func() {
			if err := d.provisioner.Serve(ctx); err != nil {
				log.Error("provisioning stopped", "database", d.resource.GetName(), "error", fault.Chain(err))
			}
		})
	}
}

// close ends the background work and the idle admin connections.
func (d *database) close(ctx context.Context) error {
	d.stop()
	d.work.Wait()
	if d.provisioner == nil {
		return nil
	}
	return d.provisioner.Close(ctx)
}

// dial opens a connection for a database user, up to the end of TLS.
func (d *database) dial(ctx context.Context, databaseUser string) (*pgwire.ServerConn, error) {
	conn, _, err := d.dialShown(ctx, databaseUser)
	return conn, err
}

// dialShown is dial, and returns the certificate that the connection has shown.
func (d *database) dialShown(ctx context.Context, databaseUser string) (*pgwire.ServerConn, *tls.Certificate, error) {
	return d.dialTo(ctx, d.dialing, databaseUser)
}

// dialTo is dialShown to another server than the database's own.
func (d *database) dialTo(ctx context.Context, cfg pgwire.DialConfig, databaseUser string) (*pgwire.ServerConn, *tls.Certificate, error) {
	if d.unsupported != nil {
		return nil, nil, d.unsupported
	}
	cert, err := d.credentials.certificate(ctx, databaseUser)
	if err != nil {
		return nil, nil, err
	}
	cfg.TLS = showing(cfg.TLS, cert)
	conn, err := pgwire.Dial(ctx, cfg)
	if err != nil {
		return nil, nil, d.certificateHint(err)
	}
	return conn, cert, nil
}

// dialSoon is dial, with the spare connection of the database user where there is
// one. What PostgreSQL says to a login over a spare connection is not final.
func (d *database) dialSoon(ctx context.Context, databaseUser string) (conn *pgwire.ServerConn, spare bool, err error) {
	cert, err := d.credentials.certificate(ctx, databaseUser)
	if err != nil {
		return nil, false, err
	}
	if conn := d.spares.take(databaseUser, cert); conn != nil {
		return conn, true, nil
	}
	conn, err = d.dial(ctx, databaseUser)
	return conn, false, err
}

// scope tells the bundles of a registered database from those of others on the same server.
func (s *Server) scope(name string) string { return s.cfg.Cluster + "/" + name }
