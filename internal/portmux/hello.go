package portmux

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// Protocol names (ALPN) that mean a database session.
const (
	// ALPNPostgres is the registered name; libpq 17 sends it on direct TLS.
	ALPNPostgres = "postgresql"
	// ALPNPostern is what our local proxy sends.
	ALPNPostern = "postern-db"
	// ALPNTeleport is what local proxies of existing installations send.
	ALPNTeleport = "teleport-postgres"
)

// Kind tells how a connection began.
type Kind int

// The kinds of connections.
const (
	KindTLS           Kind = iota + 1 // TLS at once
	KindNegotiatedTLS                 // TLS after SSLRequest: PostgreSQL for certain
	KindCancel                        // a CancelRequest in clear text
	KindStartup                       // a StartupMessage in clear text, to be refused politely
)

// TLS reports whether a ClientHello comes next.
func (k Kind) TLS() bool { return k == KindTLS || k == KindNegotiatedTLS }

func (k Kind) String() string {
	switch k {
	case KindTLS:
		return "TLS"
	case KindNegotiatedTLS:
		return "negotiated TLS"
	case KindCancel:
		return "cancel request"
	case KindStartup:
		return "clear-text start-up"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Hello is what the first bytes of a connection tell. Nothing of it is proven.
type Hello struct {
	Kind Kind
	SNI  string   // server name, lower case; empty when none was sent
	ALPN []string // protocols the client offers, in its order
}

// HelloOf returns how conn began, if it came out of a [Mux], also when it is
// wrapped by TLS.
func HelloOf(conn net.Conn) (Hello, bool) {
	if c := unwrap(conn); c != nil {
		return c.hello, true
	}
	return Hello{}, false
}

// Admit says that conn has proven who it is, also when it is wrapped by TLS. Until
// then it counts as half-open, and may be closed in favour of newer ones.
func Admit(conn net.Conn) {
	if c := unwrap(conn); c != nil {
		c.admit()
	}
}

// unwrap returns the connection that came out of a Mux, or nil.
func unwrap(conn net.Conn) *muxConn {
	for {
		switch c := conn.(type) {
		case *muxConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// StandardRoute returns a route function for a hub of the given cluster. To
// database go connections that speak PostgreSQL for certain, that name one of its
// protocols, or whose server name is below "db.<cluster>". All else goes to web,
// whose TLS side can be told apart further by the same names.
func StandardRoute(cluster, database, web string) func(Hello) string {
	suffix := ".db." + strings.ToLower(cluster)
	protocols := []string{ALPNPostgres, ALPNPostern, ALPNTeleport}
	return func(h Hello) string {
		switch {
		case h.Kind != KindTLS:
			return database
		case slices.ContainsFunc(h.ALPN, func(name string) bool { return slices.Contains(protocols, name) }):
			return database
		case len(h.ALPN) == 0 && strings.HasSuffix(h.SNI, suffix):
			return database
		}
		return web
	}
}
