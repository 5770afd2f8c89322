package chaos

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// link is a network between gateways and server that can be cut.
type link struct {
	to       string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []net.Conn // in the order they came
}

// newLink returns a link to a server that ends with the test.
func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{to: to, listener: listener}
	l.running.Go(l.serve)
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		l.closeAll()
		l.running.Wait()
	})
	return l
}

func (l *link) addr() string { return l.listener.Addr().String() }

func (l *link) serve() {
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.running.Go(func() { l.relay(conn) })
		}
	}
}

// relay copies both ways until one side has ended.
func (l *link) relay(from net.Conn) {
	defer from.Close()
	var dialer net.Dialer
	to, err := dialer.Dial("tcp", l.to)
	if err != nil {
		return // the server is down
	}
	defer to.Close()
	l.mu.Lock()
	l.conns = append(l.conns, from)
	l.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.(*net.TCPConn).CloseWrite() // fails when the gateway has gone
	})
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite() // fails when the server has gone
	back.Wait()
	l.forget(from)
}

func (l *link) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range l.conns {
		if c == conn {
			l.conns = append(l.conns[:i], l.conns[i+1:]...)
			return
		}
	}
}

// cut breaks a third of the connections.
func (l *link) cut(r *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		if r.IntN(3) == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset, not a farewell
			_ = c.Close()
		}
	}
}

func (l *link) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
}
