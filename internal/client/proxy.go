package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgwire"
)

const (
	// openingTimeout is how long a program may take to say its first words.
	openingTimeout = 30 * time.Second
	// drainTimeout is how long connections may still pass on what they hold when
	// the proxy ends.
	drainTimeout = time.Second
	// acceptPause is the wait after a failed accept, usually for file descriptors.
	acceptPause = 50 * time.Millisecond
)

// Proxy carries PostgreSQL connections of this machine to one database. The
// program on this side needs neither TLS nor a password; whoever reaches the
// listener is the user, so give it one that others cannot reach, such as
// [ListenPrivate].
type Proxy struct {
	address     string
	hostCAs     *x509.CertPool
	certificate func(context.Context) (*DatabaseCertificate, error)
	usable      func(*DatabaseCertificate) bool
	log         *slog.Logger

	renewal singleflight.Group
	buffers sync.Pool // of *[]byte, see relay

	mu    sync.Mutex            // guards what follows
	cert  *DatabaseCertificate  // the newest one; nil before the first connection
	conns map[net.Conn]struct{} // both sides of what is carried now
	ended bool                  // no connection may live any more
}

// Proxy returns a proxy for a route, whose certificate it renews as needed.
func (h *Hub) Proxy(route identity.Route, log *slog.Logger) *Proxy {
	p := &Proxy{
		address: h.Profile.Address,
		hostCAs: h.hostCAs,
		log:     log,
		conns:   map[net.Conn]struct{}{},
		certificate: func(ctx context.Context) (*DatabaseCertificate, error) {
			return h.DatabaseCertificate(ctx, route)
		},
		usable: h.usable,
	}
	p.buffers.New = func() any { b := make([]byte, relayBuffer); return &b }
	return p
}

// Serve accepts connections until ctx ends or the listener fails, and closes the
// listener. It returns when every connection has ended; those that are open when
// ctx ends get a moment to pass on what they hold. It serves once.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	// Connections outlive ctx by the time to drain.
	carry, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer p.drain(&wg, cancel)
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // its error is the accept's error
	defer stop()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // came too late
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept: %w", err)
		}
		if err != nil {
			p.log.Warn("cannot accept a connection", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		wg.Go(func() { p.handle(carry, conn) })
	}
}

// drain waits for the connections to end, and after a moment ends them.
func (p *Proxy) drain(wg *sync.WaitGroup, cancel context.CancelFunc) {
	cut := time.AfterFunc(drainTimeout, func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = true
		for conn := range p.conns {
			_ = conn.Close() // cut short on purpose
		}
	})
	defer cut.Stop()
	wg.Wait()
}

// handle carries one connection from its first byte to its last.
func (p *Proxy) handle(ctx context.Context, conn net.Conn) {
	defer p.track(conn)()
	_ = conn.SetReadDeadline(time.Now().Add(openingTimeout)) // fails on closed connections only, as does the read
	first, err := readOpening(conn)
	if refusal, ok := errors.AsType[*pgwire.Error](err); ok {
		p.answer(conn, refusal)
		return
	}
	if err != nil {
		p.log.Debug("connection without a start-up packet", "error", err)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	hub, err := p.dial(ctx)
	if err != nil {
		if !first.cancel {
			p.answer(conn, err)
		}
		return
	}
	defer p.track(hub)()
	if err := p.relay(conn, hub, first); err != nil {
		p.log.Debug("connection ended early", "error", err)
	}
}

// dial opens a TLS connection that leads to the database.
func (p *Proxy) dial(ctx context.Context) (*tls.Conn, error) {
	cert, err := p.current(ctx)
	if _, ok := errors.AsType[*fault.Error](err); err != nil && !ok { // a full disk, say: this is the user's own machine
		err = fault.Newf(fault.Unavailable, "cannot get a database certificate: %w", err)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+handshakeTimeout)
	defer cancel()
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: dialTimeout},
		Config: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			ServerName:   cert.ServerName,
			NextProtos:   []string{api.ALPNDatabase},
			RootCAs:      p.hostCAs,
			Certificates: []tls.Certificate{cert.cert.tls},
			// No ClientSessionCache: every connection proves itself anew.
		},
	}
	conn, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, p.explain(err)
	}
	return conn.(*tls.Conn), nil // as tls.Dialer promises
}

// current returns the certificate to use now. Connections that need a new one at
// the same time share one renewal.
func (p *Proxy) current(ctx context.Context) (*DatabaseCertificate, error) {
	p.mu.Lock()
	cert := p.cert
	p.mu.Unlock()
	if cert != nil && p.usable(cert) {
		return cert, nil
	}
	done := p.renewal.DoChan("", func() (any, error) {
		cert, err := p.certificate(ctx)
		if err == nil {
			p.mu.Lock()
			p.cert = cert
			p.mu.Unlock()
		}
		return cert, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*DatabaseCertificate), nil
	}
}

// explain turns a failed connection to the hub into what the user should read.
func (p *Proxy) explain(err error) error {
	if refused(err) {
		return fault.Newf(fault.Unauthenticated, "the hub at %s refused the connection: %w", p.address, err).
			WithHint("log in again with 'postern login'")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.Newf(fault.Unavailable, "the hub at %s is not trusted: %w", p.address, err).
			WithHint("if the hub got new CAs, log in again with 'postern login'")
	}
	return fault.Newf(fault.Unavailable, "cannot reach the hub at %s: %w", p.address, err)
}

// track keeps conn among those that the end of the proxy closes. The function it
// returns closes conn.
func (p *Proxy) track(conn net.Conn) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = struct{}{}
	if p.ended {
		_ = conn.Close() // its reader ends at once
	}
	return func() {
		_ = conn.Close() // both directions have ended; nothing is lost
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
	}
}
