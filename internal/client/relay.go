package client

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

const (
	// relayBuffer holds two TLS records; larger ones do not make a copy faster.
	relayBuffer = 32 << 10
	// lingerTimeout is how long a program may take to notice that the session is
	// over and close. Closing at once could destroy the last message on its way.
	lingerTimeout = 5 * time.Second
)

// halfCloser is what both sides are: a connection that can say "no more from me".
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relay passes on the first packet and then copies both ways until both sides have ended.
// It answers the program itself when the hub ends without a word.
func (p *Proxy) relay(conn net.Conn, hub *tls.Conn, first opening) error {
	local, ok := conn.(halfCloser)
	if !ok {
		return errors.New("the listener's connections cannot be half closed")
	}
	var up error
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, up = hub.Write(first.raw); up == nil {
			_, up = p.copy(hub, local)
		}
		_ = hub.CloseWrite()
		if up != nil { // one side is broken: take what the hub still says, but do not wait for it
			_ = hub.SetReadDeadline(time.Now().Add(lingerTimeout))
		}
	})
	passed, down := p.copy(local, hub)
	if passed == 0 && !first.cancel {
		p.answer(local, silence(down))
	}
	_ = local.CloseWrite()
	_ = local.SetReadDeadline(time.Now().Add(lingerTimeout))
	if down != nil {
		_ = hub.Close()
	}
	wg.Wait()
	return errors.Join(down, up)
}

// silence says why the hub ended a connection without a word. In TLS 1.3 a
// refused client certificate shows only now.
func silence(err error) *fault.Error {
	switch {
	case err == nil:
		return fault.New(fault.Unavailable, "the hub closed the connection before the session began")
	case refused(err):
		return fault.Newf(fault.Unauthenticated, "the hub refused the database certificate: %w", err).
			WithHint("log in again with 'postern login'")
	}
	return fault.Newf(fault.Unavailable, "the connection to the hub broke before the session began: %w", err)
}

// copy copies until src ends and returns the number of bytes that dst took. It
// does not use io.Copy, which would allocate a buffer per connection.
func (p *Proxy) copy(dst io.Writer, src io.Reader) (int64, error) {
	buf := p.buffers.Get().(*[]byte) // nothing else is ever put in
	defer p.buffers.Put(buf)
	var passed int64
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			w, err := dst.Write((*buf)[:n])
			passed += int64(w)
			if err != nil {
				return passed, err
			}
		}
		if errors.Is(err, io.EOF) {
			return passed, nil
		}
		if err != nil {
			return passed, err
		}
	}
}
