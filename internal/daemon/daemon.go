// Package daemon starts and stops the parts of Postern in one process.
//
// [Run] is all there is: it opens state and audit log, wires hub and agent to
// each other, says when it is ready, and runs until its context ends.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-db/postern/internal/agent"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/hub"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/store"
)

// Options are what the command line adds to the configuration.
type Options struct {
	Version string    // of this program
	Out     io.Writer // gets the one line that says that all is ready
	Log     *slog.Logger
	AWS     aws.Config // how Amazon is reached, where tests have one of their own
	// Now is the agent's clock, where tests have one of their own; nil: time.Now.
	Now func() time.Time
	// TuneMemory says that the process is the daemon's own, so that it may decide
	// when memory is collected and given back.
	TuneMemory bool
}

// Files in the data directory.
const (
	stateFile = "state.db"
	auditDir  = "audit"
)

// AuditDir returns the directory of the audit log.
func AuditDir(dataDir string) string { return filepath.Join(dataDir, auditDir) }

// Run runs hub and agent until ctx ends. Then no new session is accepted, the
// open ones are ended and their database users released, and it returns nil.
func Run(ctx context.Context, cfg *config.Config, opt Options) (err error) {
	d := &daemon{cfg: cfg, opt: opt}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx); err != nil {
		return err
	}
	return d.serve(ctx)
}

// daemon is the parts of one process.
type daemon struct {
	cfg    *config.Config
	opt    Options
	closes []func() error // in the order opened

	hub     *hub.Server
	agent   *agent.Server  // nil when db_service is not enabled
	found   *aws.Discovery // of the agent; nil where it discovers nothing
	publish *publisher     // nil where the discovery service has nothing to find
	metrics *metricsServer // nil when they are not served
	address string         // public
}

func (d *daemon) close() error {
	var err error
	for i := len(d.closes) - 1; i >= 0; i-- {
		err = errors.Join(err, d.closes[i]())
	}
	return err
}

// open makes everything that can fail before the first connection is accepted.
func (d *daemon) open(ctx context.Context) error {
	for _, text := range d.cfg.Warnings() {
		d.opt.Log.Warn("configuration", "warning", text)
	}
	if err := privateDir(d.cfg.DataDir); err != nil {
		return err
	}
	state, err := store.Open(ctx, store.Config{Path: filepath.Join(d.cfg.DataDir, stateFile)})
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	d.closes = append(d.closes, state.Close)
	log, err := audit.Open(ctx, audit.Config{Dir: AuditDir(d.cfg.DataDir), Cluster: d.cfg.Hub.ClusterName, Log: d.opt.Log})
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	d.closes = append(d.closes, log.Close)
	public, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.cfg.Hub.ListenAddr)
	if err != nil {
		return listenFault(d.cfg.Hub.ListenAddr, err)
	}
	d.closes = append(d.closes, closed(public))
	control, err := listenControl(ctx, filepath.Join(d.cfg.DataDir, api.ControlSocket))
	if err != nil {
		return err
	}
	d.closes = append(d.closes, closed(control))
	d.address = d.cfg.Hub.PublicAddr
	if d.address == "" {
		d.address = public.Addr().String()
	}
	cfg, err := d.hubConfig(state, log, public, control)
	if err != nil {
		return err
	}
	if d.hub, err = hub.New(ctx, cfg); err != nil {
		return err
	}
	cloud := aws.New(d.opt.AWS)
	if searches := d.cfg.Discovery.Searches(); len(searches) > 0 {
		d.publish = d.newPublisher(cloud.Discovery(searches, d.cfg.Discovery.PollInterval.Std(), d.opt.Log))
	}
	if !*d.cfg.DBService.Enabled {
		return d.openMetrics(ctx)
	}
	if searches := d.cfg.DBService.Searches(); len(searches) > 0 {
		d.found = cloud.Discovery(searches, 0, d.opt.Log)
	}
	if d.agent, err = d.newAgent(log, cloud); err != nil {
		return err
	}
	return d.openMetrics(ctx, d.agent.Metrics())
}

// openMetrics listens for requests for metrics, where the configuration wants them.
func (d *daemon) openMetrics(ctx context.Context, more ...prometheus.Collector) (err error) {
	if d.cfg.MetricsAddr == "" {
		return nil
	}
	if d.metrics, err = listenMetrics(ctx, d.cfg.MetricsAddr, more...); err != nil {
		return err
	}
	d.closes = append(d.closes, closed(d.metrics.ln))
	d.opt.Log.Info("serving metrics", "addr", d.metrics.ln.Addr().String())
	return nil
}

func (d *daemon) hubConfig(state store.Store, log *audit.Log, public, control net.Listener) (hub.Config, error) {
	cfg := hub.Config{
		Cluster: d.cfg.Hub.ClusterName, PublicAddr: d.address, Version: d.opt.Version, Parts: []string{"hub"},
		Store: state, Audit: log, AuditDir: AuditDir(d.cfg.DataDir), Listener: pgwire.Sockets(public), Control: control, Log: d.opt.Log,
		MaxHalfOpen: d.cfg.Hub.MaxUnauthenticated, MaxPerSource: d.cfg.Hub.MaxUnauthenticatedPerSource,
	}
	for _, network := range d.cfg.Hub.ProxyProtocol {
		cfg.Proxies = append(cfg.Proxies, network.Prefix)
	}
	if *d.cfg.DBService.Enabled {
		cfg.Parts = append(cfg.Parts, "agent")
	}
	if files := d.cfg.Hub.TLS; files.CertFile != "" {
		cfg.Certificate = certificateFiles(files.CertFile, files.KeyFile)
		if _, err := cfg.Certificate(); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// newAgent wires an agent to the hub in the same process.
func (d *daemon) newAgent(log *audit.Log, cloud *aws.Cloud) (*agent.Server, error) {
	static, err := d.cfg.DBService.Static()
	if err != nil {
		return nil, err
	}
	var discovered func() ([]*resource.Database, <-chan struct{})
	if d.found != nil {
		discovered = d.found.Databases
	}
	return agent.New(agent.Config{
		Cluster:    d.cfg.Hub.ClusterName,
		Static:     static,
		Discovered: discovered,
		Selects:    d.cfg.DBService.Selects(),
		View: func() (agent.View, <-chan struct{}) {
			view, newer := d.hub.View()
			return view, newer
		},
		VerifyUser:    d.hub.VerifyUser,
		DatabaseRoots: d.hub.DatabaseRoots,
		IssueHost:     d.hub.IssueAgent,
		IssueClient:   d.hub.IssueDatabaseClient,
		AWS:           cloud,
		Audit:         log,
		Log:           d.opt.Log,
		Now:           d.opt.Now,
	})
}

// serve runs the parts. The agent ends first, while the hub still serves it.
func (d *daemon) serve(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHub()
	ctx, stopAll := context.WithCancelCause(ctx)
	defer stopAll(nil)

	if d.opt.TuneMemory {
		running.Go(func() { tuneMemory(hubCtx) })
	}
	databases := d.hub.DatabaseListener()
	running.Go(func() {
		if err := d.hub.Serve(hubCtx, agents{d.agent, d.discoveries()}); err != nil {
			stopAll(fmt.Errorf("hub: %w", err))
		}
	})
	for _, discovery := range d.discoveries() {
		running.Go(func() { discovery.Serve(ctx) })
	}
	if d.publish != nil {
		running.Go(func() { d.publish.serve(ctx) })
	}
	if d.metrics != nil {
		running.Go(func() {
			if err := d.metrics.serve(hubCtx); err != nil {
				stopAll(fmt.Errorf("metrics: %w", err))
			}
		})
	}
	if d.agent != nil {
		if err := d.agent.Serve(ctx, databases, d.ready); err != nil {
			stopAll(fmt.Errorf("agent: %w", err))
		}
	} else {
		_ = databases.Close() // nobody serves them, so nobody shall wait; it cannot fail
		d.ready()
		<-ctx.Done()
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// ready tells whoever started us where to find us.
func (d *daemon) ready() {
	_, err := fmt.Fprintf(d.opt.Out, "postern is ready: address=%s cluster=%s ca_pin=%s\n", d.address, d.cfg.Hub.ClusterName, d.hub.CAPin())
	if err != nil {
		d.opt.Log.Warn("ready, but nobody was told", "error", err)
	}
}
