package pgwire

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// end is one of the two connections of a relay. Its read deadline has three
// users, which end keeps apart: the limit of a session that is ending, a wake-up,
// and reads that must not wait.
type end struct {
	net.Conn
	buffered bool // TLS: a read may leave decrypted bytes behind

	mu sync.Mutex
	// All below is guarded by mu.
	limit   time.Time // reads fail from then on; zero means never
	woken   bool      // wake was called and not yet noticed
	instant bool      // readBuffered is running
}

func newEnd(conn net.Conn) *end {
	if c, ok := conn.(*ServerConn); ok {
		conn = c.Conn
	}
	_, buffered := conn.(*tls.Conn)
	return &end{Conn: conn, buffered: buffered}
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
	if e.woken || e.instant {
		deadline = past
	}
	_ = e.SetReadDeadline(deadline)
}

// readBuffered reads what is already decrypted and never waits. A deadline that
// has passed keeps crypto/tls from reading the socket, and leaves it usable.
func (e *end) readBuffered(buf []byte) (int, error) {
	e.setInstant(true)
	n, err := e.Read(buf)
	e.setInstant(false)
	if isTimeout(err) {
		err = nil
	}
	return n, err
}

func (e *end) setInstant(instant bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instant = instant
	e.rearm()
}

func (e *end) closeWrite() error { return closeWrite(e.Conn) }
