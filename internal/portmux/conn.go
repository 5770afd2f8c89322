package portmux

import (
	"errors"
	"net"
	"sync"
)

// muxConn is a connection handed on: it reads what was peeked first.
type muxConn struct {
	net.Conn
	hello  Hello
	remote net.Addr // the client behind a balancer; nil: the other end
	admit  func()   // lets it no longer count as half-open

	mu     sync.Mutex
	peeked []byte // guarded by mu
}

// Read returns what was peeked, then what comes from the network.
func (c *muxConn) Read(p []byte) (int, error) {
	if n := c.replay(p); n > 0 {
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *muxConn) replay(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.peeked)
	if c.peeked = c.peeked[n:]; len(c.peeked) == 0 {
		c.peeked = nil // a session may live for days
	}
	return n
}

// NetConn returns the connection below, or nil while something of it was peeked and
// not read again.
func (c *muxConn) NetConn() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.peeked) > 0 {
		return nil
	}
	return c.Conn
}

// RemoteAddr returns the address of the client.
func (c *muxConn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

// Close closes the connection, which then counts no more.
func (c *muxConn) Close() error {
	c.admit()
	return c.Conn.Close()
}

// CloseWrite closes the writing half of the connection.
func (c *muxConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
