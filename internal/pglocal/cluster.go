package pglocal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/postern-db/postern/internal/fault"
)

// Cluster is a running throwaway server. Its methods may be called by several
// goroutines.
type Cluster struct {
	cfg   Config
	owner owner
	dir   string // holds everything; removed by Close
	lock  *os.File
	port  int
	held  *os.File // keeps the port while the server is stopped; nil where that cannot be

	mu     sync.Mutex
	server *process // nil while stopped
}

// startAttempts bounds how often a start is tried again with another port: where
// ports cannot be held, somebody else may have taken the one that was free a moment ago.
const startAttempts = 5

// Start makes a cluster, starts it and waits until it accepts connections. ctx
// bounds the start only.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	owner, err := serverOwner()
	if err != nil {
		return nil, err
	}
	base := baseDir(owner)
	removeStale(base)
	dir, lock, err := newDir(base)
	if err != nil {
		return nil, fmt.Errorf("make a directory for PostgreSQL: %w", err)
	}
	c := &Cluster{cfg: cfg, owner: owner, dir: dir, lock: lock}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for attempt := 1; ; attempt++ {
		if c.port, c.held, err = holdPort(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		err = c.Resume(ctx)
		if err == nil {
			return c, nil
		}
		if attempt == startAttempts || ctx.Err() != nil {
			return nil, errors.Join(err, c.Close())
		}
		if err := closeAgain(c.held); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
}

// StartReplica starts a streaming replica of the cluster, configured like it and
// with more settings. The cluster must be stopped; the replica follows it as soon
// as it runs again.
func (c *Cluster) StartReplica(ctx context.Context, settings map[string]string) (*Cluster, error) {
	cfg := c.cfg
	cfg.Settings = maps.Clone(cfg.Settings)
	if cfg.Settings == nil {
		cfg.Settings = map[string]string{}
	}
	maps.Copy(cfg.Settings, settings)
	cfg.Follow = c
	return Start(ctx, cfg)
}

// Host returns the loopback address the server listens on.
func (c *Cluster) Host() string { return "127.0.0.1" }

// Port returns the TCP port, the same for the life of the cluster.
func (c *Cluster) Port() int { return c.port }

// SocketDir returns the directory of the Unix socket: the host to give to libpq
// for the superuser.
func (c *Cluster) SocketDir() string { return filepath.Join(c.dir, "s") }

// Superuser returns the name of the bootstrap superuser.
func (c *Cluster) Superuser() string { return c.cfg.superuser() }

// Log returns what the server has logged so far.
func (c *Cluster) Log() string {
	text, err := os.ReadFile(c.logFile())
	if err != nil {
		return ""
	}
	return string(text)
}

// Resume starts the server again after Stop, on the same port.
func (c *Cluster) Resume(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		return nil
	}
	server, err := startProcess(c.owner, c.logFile(), c.cfg.Installation, "postgres",
		"-D", c.DataDir(), "-p", fmt.Sprint(c.port), "-k", c.SocketDir())
	if err != nil {
		return err
	}
	if err := c.waitReady(ctx, server); err != nil {
		server.stop(Immediate)
		return fmt.Errorf("start PostgreSQL %d: %w; its log ends with: %s", c.cfg.Installation.Major, err, tail(c.Log()))
	}
	c.server = server
	return nil
}

// Stop stops the server and keeps the data. It returns when the server and all
// its children are gone.
func (c *Cluster) Stop(how Shutdown) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		c.server.stop(how)
		c.server = nil
	}
}

// Close stops the server and removes the cluster. It may be called again.
func (c *Cluster) Close() error {
	c.Stop(Immediate)
	err := errors.Join(closeAgain(c.held), closeAgain(c.lock))
	return errors.Join(os.RemoveAll(c.dir), err)
}

// closeAgain closes a file that may be closed already, or nil.
func closeAgain(f *os.File) error {
	if f == nil {
		return nil
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// DataDir returns the data directory.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) logFile() string { return filepath.Join(c.dir, "server.log") }

// create makes the data directory and writes the configuration.
func (c *Cluster) create(ctx context.Context) error {
	if err := os.Mkdir(c.SocketDir(), 0o700); err != nil {
		return err
	}
	if !c.owner.canReach(c.cfg.Installation.bin("postgres")) {
		// A clone below /root, say. The owner gets a copy that it can read.
		copied := filepath.Join(c.dir, "server")
		if err := os.CopyFS(copied, os.DirFS(c.cfg.Installation.Dir)); err != nil {
			return fmt.Errorf("copy the server to where it can be read: %w", err)
		}
		c.cfg.Installation.Dir = copied
	}
	if err := c.owner.own(c.dir); err != nil {
		return err
	}
	fill := c.initdb
	if c.cfg.Follow != nil {
		fill = c.copyData
	}
	if err := fill(ctx); err != nil {
		return err
	}
	return c.configure()
}

// initdb makes a new data directory.
func (c *Cluster) initdb(ctx context.Context) error {
	args := []string{
		"--pgdata", c.DataDir(), "--username", c.cfg.superuser(),
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync",
	}
	initdb, err := startProcess(c.owner, c.logFile(), c.cfg.Installation, "initdb", args...)
	if err != nil {
		return err
	}
	select {
	case <-initdb.done:
	case <-ctx.Done():
		initdb.stop(Immediate)
		return ctx.Err()
	}
	if initdb.err != nil {
		return fault.Newf(fault.Unavailable, "initdb of PostgreSQL %d failed: %w", c.cfg.Installation.Major, initdb.err).
			WithDetail(tail(c.Log()))
	}
	return nil
}

// copyData makes the data directory of a replica. What pg_basebackup does while a
// server runs is a copy while it is stopped.
func (c *Cluster) copyData(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", c.cfg.Follow.DataDir(), c.DataDir()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the data of the server to follow: %w: %s", err, out)
	}
	return nil
}

// configure writes the configuration files into the new data directory.
func (c *Cluster) configure() error {
	files := map[string][]byte{"pg_hba.conf": []byte(c.cfg.hba())}
	conf, err := os.ReadFile(filepath.Join(c.DataDir(), "postgresql.conf"))
	if err != nil {
		return err
	}
	files["postgresql.conf"] = append(conf, "\n"+c.cfg.settings(c.SocketDir())...)
	if tls := c.cfg.TLS; tls != nil {
		files[certFile], files[keyFile], files[caFile] = tls.Certificate, tls.Key, tls.ClientCAs
	}
	if c.cfg.Follow != nil {
		files[standbySignal] = nil
	}
	for name, content := range files {
		path := filepath.Join(c.DataDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		if err := c.owner.own(path); err != nil {
			return err
		}
	}
	return nil
}

// tail returns the end of a log, short enough for a message.
func tail(log string) string {
	const most = 600
	log = strings.TrimSpace(log)
	if len(log) > most {
		log = "…" + log[len(log)-most:]
	}
	return log
}
