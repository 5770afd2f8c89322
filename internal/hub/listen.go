package hub

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/portmux"
)

const (
	hostCertificateTTL = 30 * 24 * time.Hour
	headerTimeout      = 10 * time.Second
	idleTimeout        = 2 * time.Minute
	shutdownTimeout    = 5 * time.Second
	maxHeader          = 32 << 10
)

// Certificate is a certificate that an administrator provides for the public port.
type Certificate = tls.Certificate

// parts are goroutines of which each ends the whole when it fails.
type parts struct{ sync.WaitGroup }

func (p *parts) run(cancel context.CancelCauseFunc, name string, serve func() error) {
	p.Go(func() {
		err := serve()
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (s *Server) server(ctx context.Context, handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          quietLog(s.log),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}

// shutDown lets calls that are under way finish, for a moment.
func (s *Server) shutDown(ctx context.Context, servers ...*http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, server := range servers {
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close()
		}
	}
}

// tlsConfig is what API clients meet. A certificate is asked for; whether it
// proves anything is decided per call, so that the answer can say why not.
func (s *Server) tlsConfig(ctx context.Context) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if s.cfg.Certificate != nil && hello.ServerName != api.HubServerName {
				cert, err := s.cfg.Certificate()
				if err != nil {
					s.log.Error("configured certificate not usable", "error", err)
				} else if hello.SupportsCertificate(cert) == nil {
					return cert, nil
				}
			}
			return s.own.Get(ctx)
		},
		SessionTicketsDisabled: true,
	}
}

// webCaller proves who calls through the public port.
func (s *Server) webCaller(r *http.Request) caller {
	c := caller{addr: r.RemoteAddr}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return c
	}
	id, err := s.VerifyUser(r.TLS.PeerCertificates)
	if err != nil {
		c.refused = err
		return c
	}
	if !id.Route.IsZero() {
		c.refused = fault.New(fault.Denied, "a certificate for a database is not good for anything else").WithHint("use the login certificate")
		return c
	}
	c.identity = id
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		portmux.Admit(conn)
	}
	return c
}

// VerifyUser returns who the certificates of a client speak for, or Unauthenticated.
func (s *Server) VerifyUser(certs []*x509.Certificate) (identity.Identity, error) {
	return s.users.Verify(certs, s.now())
}

// DatabaseRoots returns the db authority.
func (s *Server) DatabaseRoots() []*x509.Certificate {
	return []*x509.Certificate{s.cas.database.Certificate()}
}

// ownCertificate is the hub's certificate of the host CA. Its chain holds the CA
// itself: a client that knows only the pin must see what it pins.
func (s *Server) ownCertificate() *ca.Leaf {
	names, addrs := s.publicNames()
	names = append([]string{api.HubServerName}, names...)
	return &ca.Leaf{Now: s.now, Issue: func(_ context.Context, pub crypto.PublicKey) ([]*x509.Certificate, error) {
		cert, err := s.issueHost(names, addrs, pub)
		if err != nil {
			return nil, err
		}
		return []*x509.Certificate{cert, s.cas.host.Certificate()}, nil
	}}
}

// IssueAgent issues the certificate that clients of databases see. It covers
// every database of the cluster and the hub's public address, but never the
// name by which clients know the hub itself. Clients of databases know the host CA
// already, so it does not travel along.
func (s *Server) IssueAgent(_ context.Context, pub crypto.PublicKey) ([]*x509.Certificate, error) {
	names, addrs := s.publicNames()
	cert, err := s.issueHost(append([]string{"*.db." + s.cfg.Cluster}, names...), addrs, pub)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{cert}, nil
}

// IssueDatabaseClient issues the certificate that an agent shows to PostgreSQL.
func (s *Server) IssueDatabaseClient(_ context.Context, databaseUser string, pub crypto.PublicKey, ttl time.Duration) ([]*x509.Certificate, error) {
	cert, err := s.cas.databaseClient.IssueDatabaseClient(databaseUser, pub, ttl)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{cert}, nil
}

func (s *Server) issueHost(names []string, addrs []netip.Addr, pub crypto.PublicKey) (*x509.Certificate, error) {
	cert, err := s.cas.host.IssueHost(names, addrs, pub, hostCertificateTTL)
	if err != nil {
		return nil, fmt.Errorf("issue a host certificate: %w", err)
	}
	return cert, nil
}

// publicNames returns the names and addresses under which this process can be
// reached by clients that know them from elsewhere.
func (s *Server) publicNames() (names []string, addrs []netip.Addr) {
	candidates := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(s.cfg.PublicAddr); err == nil {
		candidates = append(candidates, host)
	}
	if host, err := os.Hostname(); err == nil {
		candidates = append(candidates, host)
	}
	for _, c := range candidates {
		if addr, err := netip.ParseAddr(c); err == nil {
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		} else if !slices.Contains(names, c) {
			names = append(names, c)
		}
	}
	return names, addrs
}
