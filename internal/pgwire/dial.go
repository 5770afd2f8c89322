package pgwire

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// defaultDialTimeout bounds one attempt: TCP, SSLRequest and TLS together.
const defaultDialTimeout = 10 * time.Second

// past is a deadline that interrupts whatever waits.
var past = time.Unix(1, 0)

// alpn is the protocol name that PostgreSQL registered for TLS.
const alpn = "postgresql"

// DialConfig says how to reach a server.
type DialConfig struct {
	// Hosts are tried in order: "host:port", or the path of a Unix socket, which
	// begins with a slash.
	Hosts []string
	// Kind says which of them will do, see [ServerConn.LogIn].
	Kind ServerKind
	// Last remembers which of them took a session; may be nil.
	Last *HostMemory
	// TLS is required for every host but a Unix socket, which never uses it, and
	// where Plain allows to do without. An empty ServerName stands for the name of
	// the host tried. It is not changed.
	TLS *tls.Config
	// Plain says where a connection is not encrypted when TLS is nil.
	Plain Plain
	// Direct starts TLS at once instead of asking with SSLRequest (PostgreSQL 17).
	Direct bool
	// Groups remembers key exchange groups; may be nil.
	Groups *GroupMemory
	// Timeout bounds the attempt of each host; zero means 10 s.
	Timeout time.Duration
	// Dial opens the connection; nil means a [net.Dialer]. With a Dial of its own
	// a cancel request goes to the host by name again.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Plain says to which hosts a connection may go without TLS.
type Plain int

// The places. The zero value is none.
const (
	PlainNowhere  Plain = iota
	PlainLoopback       // addresses that do not leave this machine
	PlainAnywhere
)

// Dial opens a connection up to the end of TLS, without sending a user name: it
// may run before the database user exists. It never falls back to plain text.
//
// Errors are Unavailable, with a hint where the cause is known, or Invalid for a
// configuration that cannot work; with several hosts that of the last one.
func Dial(ctx context.Context, cfg DialConfig) (*ServerConn, error) {
	if len(cfg.Hosts) == 0 {
		return nil, fault.New(fault.Invalid, "no host of the database server is configured")
	}
	var last error
	hosts := cfg.Last.order(cfg.Hosts)
	for i, host := range hosts {
		c, err := dialHost(ctx, cfg, host)
		if err == nil {
			c.from, c.rest = &cfg, hosts[i+1:]
			return c, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// timeout bounds the attempt of one host.
func (cfg *DialConfig) timeout() time.Duration {
	if cfg.Timeout <= 0 {
		return defaultDialTimeout
	}
	return cfg.Timeout
}

func dialHost(ctx context.Context, cfg DialConfig, host string) (*ServerConn, error) {
	attempt := func() (*ServerConn, error) {
		ctx, cancel := context.WithTimeout(ctx, cfg.timeout())
		defer cancel()
		return dialOnce(ctx, cfg, host)
	}
	c, err := attempt()
	if err != nil && remoteAlert(err) && cfg.Groups.forget(host) {
		// The server was perhaps replaced by one that no longer takes the group
		// that we remember.
		c, err = attempt()
	}
	if err != nil {
		return nil, dialFault(host, err)
	}
	return c, nil
}

func dialOnce(ctx context.Context, cfg DialConfig, host string) (_ *ServerConn, err error) {
	unix := strings.HasPrefix(host, "/")
	network := "tcp"
	if unix {
		network = "unix"
	} else if cfg.TLS == nil && cfg.Plain == PlainNowhere {
		return nil, plainFault(host)
	}
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	raw, err := dial(ctx, network, host)
	if err != nil {
		return nil, err
	}
	raw = newSocket(raw)
	defer func() {
		if err != nil {
			raw.Close()
		}
	}()
	c := &ServerConn{Conn: raw, cfg: cfg, host: host, unix: unix}
	c.cfg.Hosts = []string{cancelAddress(cfg, host, raw)}
	switch {
	case unix, cfg.TLS == nil && cfg.Plain == PlainAnywhere:
		return c, nil
	case cfg.TLS == nil:
		// What the name of the host promised is checked where the connection went.
		if addr, ok := raw.RemoteAddr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() {
			return nil, plainFault(host)
		}
		return c, nil
	}
	return c, c.startTLS(ctx, raw)
}

func plainFault(host string) error {
	return fault.Newf(fault.Invalid, "a connection to %s without TLS is not allowed", host)
}

// cancelAddress returns where a cancel request for a session on conn must go: to
// the very machine that was reached, not to another behind the same name.
func cancelAddress(cfg DialConfig, host string, conn net.Conn) string {
	if cfg.Dial != nil || strings.HasPrefix(host, "/") {
		return host
	}
	return conn.RemoteAddr().String()
}

func (c *ServerConn) startTLS(ctx context.Context, raw net.Conn) error {
	cfg, err := c.tlsConfig()
	if err != nil {
		return err
	}
	secured := tls.Client(BelowTLS(raw), cfg)
	err = whileContext(ctx, raw, func() error {
		if !c.cfg.Direct {
			if err := requestTLS(raw); err != nil {
				return err
			}
		}
		return secured.HandshakeContext(ctx)
	})
	if err != nil {
		return err
	}
	c.cfg.Groups.learn(c.host, secured.ConnectionState())
	// A cancel connection goes to an address, but is verified by name.
	c.cfg.TLS = cfg
	c.Conn, c.tls = secured, secured
	return nil
}

func (c *ServerConn) tlsConfig() (*tls.Config, error) {
	cfg := c.cfg.TLS.Clone()
	if cfg.ServerName == "" {
		name, _, err := net.SplitHostPort(c.host)
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "database server address %q: %w", c.host, err)
		}
		cfg.ServerName = name
	}
	// PostgreSQL 17 and newer require the name on direct connections; older ones ignore it.
	cfg.NextProtos = []string{alpn}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.DynamicRecordSizingDisabled = true // small records cost more than they gain here
	if cfg.GetClientCertificate == nil && len(cfg.Certificates) > 0 {
		cfg.GetClientCertificate = func(ask *tls.CertificateRequestInfo) (*tls.Certificate, error) { return choose(cfg.Certificates, ask) }
	}
	if len(cfg.CurvePreferences) == 0 {
		cfg.CurvePreferences = c.cfg.Groups.groups(c.host)
	}
	return cfg, nil
}

// choose returns the certificate that the server asks for, or the first one where
// none fits. By default crypto/tls would then send none, and the server would say
// that one is missing instead of that it does not trust ours.
func choose(certs []tls.Certificate, ask *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	for i := range certs {
		if ask.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	return &certs[0], nil
}

// ErrNoTLS is in the chain of the error of a server that does not accept TLS.
var ErrNoTLS = errors.New("TLS refused")

// requestTLS asks for TLS and reads exactly one byte: anything that came with it
// stays in the socket and can only be read as part of the TLS handshake.
func requestTLS(conn net.Conn) error {
	var ask [8]byte
	binary.BigEndian.PutUint32(ask[:4], 8)
	binary.BigEndian.PutUint32(ask[4:], codeSSL)
	if _, err := conn.Write(ask[:]); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("read answer to SSLRequest: %w", noEOF(err))
	}
	switch answer[0] {
	case 'S':
		return nil
	case 'N':
		return fault.New(fault.Unavailable, "the database server does not accept TLS").WithCause(ErrNoTLS).
			WithHint("Set ssl = on, ssl_cert_file and ssl_key_file in its postgresql.conf, then reload.")
	}
	// An 'E' here may come from somebody in the middle; its text is not shown.
	return fault.New(fault.Unavailable, "the database server does not answer like PostgreSQL")
}

// whileContext runs f and makes reads and writes of conn fail once ctx ends. The
// error is then the reason for which ctx ended, even when f was just done: the
// connection is of no use any more.
func whileContext(ctx context.Context, conn net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	err := f()
	if !stop() && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), cmp.Or(err, errors.New("interrupted")))
	}
	return err
}
