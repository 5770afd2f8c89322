package pgwire

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// smallBuffer is what a direction holds while it waits. Most requests and
	// answers fit.
	smallBuffer = 512
	// largeBuffer is taken from a pool while a frame is under way. Larger ones gain
	// nothing: a TLS record holds 16 KiB.
	largeBuffer = 32 << 10
)

var largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// pump is one direction of a relay.
type pump struct {
	relay  *Relay
	src    *end
	dst    *end
	scan   scanner
	active *atomic.Int64 // when src last sent something; nil: nobody wants to know
	bytes  atomic.Int64
	frames atomic.Int64
	small  [smallBuffer]byte
}

// pumpError tells which part of a pump failed. Exactly one field is set.
type pumpError struct{ read, write, scan error }

// run moves frames until src ends or something fails.
func (p *pump) run() *pumpError {
	defer p.scan.release()
	for {
		n, err := p.read(p.small[:])
		if err != nil {
			return err
		}
		full := n == len(p.small)
		if !full || !p.src.buffered {
			if err := p.forward(p.small[:n]); err != nil {
				return err
			}
			if p.scan.atBoundary() {
				continue
			}
			n = 0
		}
		if err := p.burst(n); err != nil {
			return err
		}
	}
}

// burst moves what has begun with the first n bytes in the small buffer, up to the
// next read that ends at a frame boundary. Those bytes were not sent on yet.
func (p *pump) burst(n int) *pumpError {
	large := largePool.Get().(*[largeBuffer]byte)
	defer largePool.Put(large)
	copy(large[:], p.small[:n])
	for {
		var ended error
		if p.src.buffered && n >= smallBuffer {
			// A read returns one TLS record at most, PostgreSQL's have 8 KiB. What follows
			// and is here already goes on with it: fewer and larger records are cheaper.
			var more int
			more, ended = p.src.readBuffered(large[n:])
			n += more
		}
		if err := p.forward(large[:n]); err != nil {
			return err
		}
		if ended != nil {
			return &pumpError{read: ended}
		}
		if p.scan.atBoundary() {
			return nil
		}
		var err *pumpError
		if n, err = p.read(large[:]); err != nil {
			return err
		}
	}
}

// read returns at least one byte. Woken up, it writes our own messages first.
func (p *pump) read(buf []byte) (int, *pumpError) {
	for {
		n, err := p.src.Read(buf)
		if n > 0 {
			if p.active != nil {
				p.active.Store(time.Now().UnixNano())
			}
			return n, nil
		}
		if err == nil {
			continue
		}
		// The source may have ended because of what waits to be written: the server's
		// end can overtake the wake-up.
		woken := isTimeout(err) && p.src.wasWoken()
		if perr := p.inject(); perr != nil {
			return 0, perr
		}
		if !woken {
			return 0, &pumpError{read: err}
		}
	}
}

// inject writes our own messages to the client if the stream stands between two
// frames; otherwise forward does it later.
func (p *pump) inject() *pumpError {
	if p.scan.dir != ToClient || !p.scan.atBoundary() {
		return nil
	}
	messages, last := p.relay.take()
	if err := p.write(messages); err != nil {
		return err
	}
	if last {
		return &pumpError{read: io.EOF}
	}
	return nil
}

// forward scans data and sends it on. A frame boundary inside it is used for
// messages of ours that wait for one.
func (p *pump) forward(data []byte) *pumpError {
	if p.scan.dir == ToServer && p.relay.stopped.Load() {
		// crypto/tls hands out what it has decrypted even when the deadline has passed.
		return &pumpError{read: os.ErrDeadlineExceeded}
	}
	clean := p.scan.atBoundary()
	boundary, err := p.scan.scan(data)
	p.frames.Store(p.scan.frames)
	if err != nil {
		return p.refuse(data[:max(boundary, 0)], clean || boundary >= 0, err)
	}
	if boundary < 0 || p.scan.dir != ToClient || !p.relay.waiting.Load() {
		return p.write(data)
	}
	if err := p.write(data[:boundary]); err != nil {
		return err
	}
	messages, last := p.relay.take()
	if err := p.write(messages); err != nil {
		return err
	}
	if last {
		return &pumpError{read: io.EOF}
	}
	return p.write(data[boundary:])
}

// refuse ends a direction whose next frame may not be sent on. Towards the server
// nothing more is sent. The client gets the good frames before it and, where they
// end at a boundary, the reason.
func (p *pump) refuse(good []byte, boundary bool, err error) *pumpError {
	if p.scan.dir == ToClient {
		_ = p.dst.SetWriteDeadline(time.Now().Add(terminateGrace))
		if boundary {
			good = FromFault(err).Append(append([]byte(nil), good...))
		}
		_ = p.write(good)
	}
	return &pumpError{scan: err}
}

func (p *pump) write(data []byte) *pumpError {
	if len(data) == 0 {
		return nil
	}
	n, err := p.dst.Write(data)
	p.bytes.Add(int64(n))
	if err != nil {
		return &pumpError{write: err}
	}
	return nil
}
