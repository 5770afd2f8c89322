package portmux

import (
	"errors"
	"net"
	"sync"
)

// backlog is how many connections wait for one target's Accept; more are closed.
// It has to hold what arrives while the accepting goroutine does not run.
const backlog = 1024

var errBacklog = errors.New("target does not accept")

// targetListener is the part of the port that belongs to one target.
type targetListener struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{} // closed by Close
}

// Accept returns the next connection, and [net.ErrClosed] once the listener or the
// mux is closed.
func (l *targetListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	default:
	}
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	}
}

// Close ends Accept and closes what was not accepted. The port itself stays open;
// connections for this target are closed from now on.
func (l *targetListener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.discard()
	return nil
}

func (l *targetListener) Addr() net.Addr { return l.addr }

// deliver queues conn. It never waits.
func (l *targetListener) deliver(conn net.Conn) error {
	select {
	case l.conns <- conn:
	default:
		return errBacklog
	}
	select {
	case <-l.done:
		// Closed meanwhile, perhaps before conn was queued.
		l.discard()
	default:
	}
	return nil
}

// discard closes the connections in the queue. The listener is closed.
func (l *targetListener) discard() {
	for {
		select {
		case conn := <-l.conns:
			conn.Close()
		default:
			return
		}
	}
}
