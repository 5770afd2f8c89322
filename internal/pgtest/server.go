package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/pglocal"
)

// Options say what a server looks like. The zero value is the distribution's
// version with TLS.
type Options struct {
	// Version is the major version; 0 is the distribution's.
	Version int
	// TLS replaces the certificates that pgtest makes. ClientTLS of the server
	// is of no use then.
	TLS *pglocal.TLS
	// HBA replaces the rules for TCP connections.
	HBA string
	// Settings are added to postgresql.conf.
	Settings map[string]string
}

// defaultHBA lets anybody in who shows a certificate over TLS, and anybody without TLS.
const defaultHBA = `
hostssl   all all 127.0.0.1/32 cert
hostnossl all all 127.0.0.1/32 trust`

// startTimeout bounds initdb and start on a busy machine.
const startTimeout = 2 * time.Minute

// Server is a running PostgreSQL that tests may do anything to.
type Server struct {
	Host    string
	Port    int
	Version int

	cluster   *pglocal.Cluster
	certs     certificates
	databases atomic.Int64 // counts databases made, for their names
}

// Start starts a server that belongs to the test and ends with it.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.cluster.Close(); err != nil {
			t.Errorf("remove the server: %v", err)
		}
	})
	return s
}

func start(t testing.TB, o Options) (*Server, error) {
	t.Helper()
	in := installation(t, o.Version)
	certs, err := newCertificates()
	if err != nil {
		return nil, err
	}
	cfg := pglocal.Config{Installation: in, HBA: o.HBA, Settings: o.Settings, TLS: o.TLS}
	if cfg.HBA == "" {
		cfg.HBA = defaultHBA
	}
	if cfg.TLS == nil {
		cfg.TLS = certs.server()
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cluster, err := pglocal.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Server{Host: cluster.Host(), Port: cluster.Port(), Version: in.Major, cluster: cluster, certs: certs}, nil
}

// Addr returns host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// SocketDir returns the directory of the Unix socket, through which every role
// logs in without a password.
func (s *Server) SocketDir() string { return s.cluster.SocketDir() }

// Log returns what the server has logged.
func (s *Server) Log() string { return s.cluster.Log() }

// Database makes an empty database for the test and returns its name.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	s.Exec(t, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return name
}

// Superuser connects to a database as the bootstrap superuser. The connection
// is closed when the test ends.
func (s *Server) Superuser(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	return s.connect(t, s.Config(t, s.cluster.Superuser(), database))
}

// Connect connects over TCP, without TLS and password, as the user.
func (s *Server) Connect(t testing.TB, user, database string) *pgx.Conn {
	t.Helper()
	cfg := s.Config(t, user, database)
	cfg.Host = s.Host
	return s.connect(t, cfg)
}

// ConnectPassword connects over TCP, without TLS, as the user with a password.
func (s *Server) ConnectPassword(t testing.TB, user, password, database string) *pgx.Conn {
	t.Helper()
	cfg := s.Config(t, user, database)
	cfg.Host, cfg.Password = s.Host, password
	return s.connect(t, cfg)
}

// ConnectTLS connects over TLS with a certificate for the user.
func (s *Server) ConnectTLS(t testing.TB, user, database string) *pgx.Conn {
	t.Helper()
	cfg := s.Config(t, user, database)
	cfg.Host, cfg.TLSConfig = s.Host, s.ClientTLS(t, user)
	return s.connect(t, cfg)
}

// Config returns the configuration of a connection through the Unix socket.
// The caller may change it.
func (s *Server) Config(t testing.TB, user, database string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Database = s.SocketDir(), uint16(s.Port), user, database
	cfg.Fallbacks, cfg.Password = nil, ""
	return cfg
}

func (s *Server) connect(t testing.TB, cfg *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatalf("connect as %s to %s: %v", cfg.User, cfg.Database, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the test may have broken it on purpose
	})
	return conn
}

// Exec runs statements as superuser in the database postgres, one transaction each.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.ConnectConfig(ctx, s.Config(t, s.cluster.Superuser(), "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(sql), err)
		}
	}
}

// Stop shuts the server down, ending its sessions. [Server.Restart] starts it again.
func (s *Server) Stop(testing.TB) { s.cluster.Stop(pglocal.Fast) }

// Kill ends the server at once, as a crash would. [Server.Restart] starts it again.
func (s *Server) Kill(testing.TB) { s.cluster.Stop(pglocal.Immediate) }

// MakeReplica restarts the server as a replica, which can be read only. It has no
// primary to follow, and stays as it is.
func (s *Server) MakeReplica(t testing.TB) {
	t.Helper()
	s.cluster.Stop(pglocal.Fast)
	if err := os.WriteFile(filepath.Join(s.cluster.DataDir(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
}

// Replica starts a streaming replica of the server, which ends with the test. The
// server is stopped for a moment. settings are added to the replica's
// postgresql.conf. It has the server's certificates; promote it with pg_promote().
func (s *Server) Replica(t testing.TB, settings map[string]string) *Server {
	t.Helper()
	s.cluster.Stop(pglocal.Fast)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cluster, err := s.cluster.StartReplica(ctx, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Errorf("remove the replica: %v", err)
		}
	})
	s.Restart(t)
	return &Server{Host: cluster.Host(), Port: cluster.Port(), Version: s.Version, cluster: cluster, certs: s.certs}
}

// Restart stops the server if it runs and starts it on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.cluster.Stop(pglocal.Fast)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.cluster.Resume(ctx); err != nil {
		t.Fatal(err)
	}
}
