package portmux

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

const (
	// peekTimeout is how long a client may take to show what it is: two round trips
	// for PostgreSQL, over a bad line, and someone who starts psql by hand.
	peekTimeout = 10 * time.Second

	defaultMaxHalfOpen  = 4096
	defaultMaxPerSource = 256

	// maxAcceptDelay bounds the pause after a failed accept, e.g. for want of file
	// descriptors.
	maxAcceptDelay = time.Second
)

// Config says what a [Mux] serves.
type Config struct {
	// Listener is the public port. The mux closes it.
	Listener net.Listener
	// Route names the target of a connection; "" closes it. It is called from many
	// goroutines and must not block.
	Route func(Hello) string
	// Log gets one debug line for each connection that is refused, warnings when
	// accepting fails; required.
	Log *slog.Logger
	// Proxies are the load balancers in front. What comes from one of them has to
	// begin with a header of the PROXY protocol, version 1 or 2; from elsewhere none
	// is accepted.
	Proxies []netip.Prefix
	// MaxHalfOpen and MaxPerSource bound the connections that have not proven yet who
	// they are, see [Admit]; zero means 4096, and 256 for each source address (IPv6:
	// /64). At the limit the oldest is closed.
	MaxHalfOpen, MaxPerSource int
	// PeekTimeout bounds the time until a connection has shown what it is; zero means
	// 10 s. After that it is the target's to bound.
	PeekTimeout time.Duration
}

// Mux hands connections of one port on to several listeners.
type Mux struct {
	cfg  Config
	half halfOpen

	mu        sync.Mutex
	listeners map[string]*targetListener // guarded by mu
	closed    bool                       // guarded by mu
}

// New returns a mux that [Mux.Serve] starts. The error is Invalid.
func New(cfg Config) (*Mux, error) {
	if cfg.Listener == nil || cfg.Route == nil || cfg.Log == nil {
		return nil, fault.New(fault.Invalid, "the public port needs a listener, a route and a log")
	}
	if cfg.MaxHalfOpen <= 0 {
		cfg.MaxHalfOpen = defaultMaxHalfOpen
	}
	if cfg.MaxPerSource <= 0 {
		cfg.MaxPerSource = defaultMaxPerSource
	}
	if cfg.PeekTimeout <= 0 {
		cfg.PeekTimeout = peekTimeout
	}
	return &Mux{
		cfg:       cfg,
		half:      halfOpen{maxAll: cfg.MaxHalfOpen, maxSource: cfg.MaxPerSource},
		listeners: map[string]*targetListener{},
	}, nil
}

// Listener returns the listener of a target, always the same one for a name. Its
// connections have a CloseWrite method where the port's have; see [HelloOf].
func (m *Mux) Listener(target string) net.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.listeners[target]
	if l == nil {
		l = &targetListener{addr: m.cfg.Listener.Addr(), conns: make(chan net.Conn, backlog), done: make(chan struct{})}
		m.listeners[target] = l
		if m.closed {
			l.Close()
		}
	}
	return l
}

// Serve accepts until ctx ends, which returns nil, or the port fails. Then the
// port, all listeners, and all connections that were not accepted from one are
// closed. Call it once.
func (m *Mux) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		m.cfg.Listener.Close()
		m.half.close()
	})
	defer stop()
	var peeks sync.WaitGroup
	err := m.accept(ctx, &peeks)
	m.cfg.Listener.Close()
	m.half.close()
	m.mu.Lock()
	m.closed = true
	for _, l := range m.listeners {
		l.Close()
	}
	m.mu.Unlock()
	peeks.Wait()
	return err
}

func (m *Mux) accept(ctx context.Context, peeks *sync.WaitGroup) error {
	delay := time.Duration(0)
	for {
		conn, err := m.cfg.Listener.Accept()
		switch {
		case err == nil:
			delay = 0
			if w := m.half.add(conn); w != nil {
				peeks.Go(func() { m.handle(w) }) //nolint:contextcheck // ends by its deadline, or because Serve closes the connection
			} else {
				conn.Close()
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			delay = min(max(2*delay, 5*time.Millisecond), maxAcceptDelay)
			m.cfg.Log.Warn("accept failed", "error", err, "retry_in", delay)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(delay):
			}
		}
	}
}

// handle finds out what a connection is and hands it on.
func (m *Mux) handle(w *waiting) {
	_ = w.conn.SetDeadline(time.Now().Add(m.cfg.PeekTimeout))
	conn, err := m.open(w)
	ours := m.half.handOn(w)
	if err == nil && ours {
		_ = w.conn.SetDeadline(time.Time{})
		err = m.deliver(conn)
	}
	if err != nil || !ours {
		conn.Close()
		m.cfg.Log.Debug("connection refused", "remote_addr", conn.RemoteAddr().String(), "dropped", !ours, "error", err)
	}
}

// open reads what a connection begins with. It returns a connection also with an error.
func (m *Mux) open(w *waiting) (conn *muxConn, err error) {
	conn = &muxConn{Conn: w.conn, admit: func() { m.half.remove(w) }}
	if m.fromProxy(w.conn) {
		if conn.remote, err = m.readProxy(w); err != nil {
			return conn, err
		}
	} else {
		m.half.assign(w, SourceOf(w.conn.RemoteAddr()))
	}
	conn.hello, conn.peeked, err = peek(w.conn)
	return conn, err
}

var errNoTarget = errors.New("no target for this connection")

func (m *Mux) deliver(conn *muxConn) error {
	target := m.cfg.Route(conn.hello)
	m.mu.Lock()
	l := m.listeners[target]
	m.mu.Unlock()
	if l == nil {
		return errNoTarget
	}
	return l.deliver(conn)
}
