package pgwire

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// end is one of the two connections of a relay. It is read by one goroutine, which
// waits in await: reads do not. The read deadline has two users, which end keeps apart:
// the limit of a session that is ending, and a wake-up.
type end struct {
	net.Conn         // TLS over in, or in itself
	in       *intake // where bytes arrive
	more     bool    // a read may find something that is not in in any more
	searched bool    // TLS has nothing left of what it had read before the relay began

	mu sync.Mutex
	// All below is guarded by mu.
	limit time.Time // reads fail from then on; zero means never
	woken bool      // wake was called and not yet noticed
}

func newEnd(conn net.Conn) *end {
	if c, ok := conn.(*ServerConn); ok {
		conn = c.Conn
	}
	if secured, ok := conn.(*tls.Conn); ok {
		if in, ok := secured.NetConn().(*intake); ok {
			return &end{Conn: conn, in: in, more: true}
		}
	}
	in := &intake{Conn: conn, plain: true}
	return &end{Conn: in, in: in, searched: true}
}

// await waits until there may be something to read. Its errors are time-outs: limitRead or wake.
func (e *end) await() error {
	if e.more {
		return nil
	}
	return e.in.await()
}

// ready tells that there may be something to read now.
func (e *end) ready() bool { return e.more || e.in.ready() }

// read reads what is there. Nothing is no error.
func (e *end) read(buf []byte) (int, error) {
	n, err := e.Read(buf)
	if err == errNothing { //nolint:errorlint // crypto/tls returns it unwrapped
		e.more, e.searched = false, true
		return n, nil
	}
	e.more = n == len(buf) || !e.searched
	return n, err
}

// limitRead makes reads fail from t on. An earlier limit stays.
func (e *end) limitRead(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.limit.IsZero() || t.Before(e.limit) {
		e.limit = t
	}
	e.rearm()
}

// wake makes a read that waits, or else the next one, return a time-out.
func (e *end) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.woken = true
	e.rearm()
}

// wasWoken tells a wake-up from the end of the limit, and ends it.
func (e *end) wasWoken() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	woken := e.woken
	e.woken = false
	e.rearm()
	return woken
}

// rearm sets the deadline that holds now. e.mu is held.
func (e *end) rearm() {
	deadline := e.limit
	if e.woken {
		deadline = past
	}
	_ = e.SetReadDeadline(deadline)
}

// cut tells, after the end of file, that the connection has ended and TLS has not. To TLS that is
// an attack or an accident (RFC 8446, section 6.1), although crypto/tls says nothing between two records.
func (e *end) cut() bool { return !e.in.plain && e.in.err != nil }

func (e *end) closeWrite() error { return closeWrite(e.Conn) }
