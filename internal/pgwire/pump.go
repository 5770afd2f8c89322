package pgwire

import (
	"io"
	"os"
	"sync/atomic"
	"time"
)

// worthMore is how much a read must have brought to be worth another one before it is
// sent on. A read returns one TLS record at most, PostgreSQL's have 8 KiB; fewer and
// larger ones are cheaper.
const worthMore = 512

// pump is one direction of a relay.
type pump struct {
	relay  *Relay
	src    *end
	dst    *end
	scan   scanner
	active *atomic.Int64 // when src last sent something; nil: nobody wants to know
	bytes  atomic.Int64
	frames atomic.Int64
}

// pumpError tells which part of a pump failed. Exactly one field is set.
type pumpError struct{ read, write, scan error }

// run moves frames until src ends or something fails.
func (p *pump) run() *pumpError {
	defer p.scan.release()
	for {
		if err := p.wait(); err != nil {
			return err
		}
		if err := p.burst(); err != nil {
			return err
		}
	}
}

// wait returns when there may be something to read. Woken up, it writes our own
// messages first.
func (p *pump) wait() *pumpError {
	for {
		err := p.src.await()
		if err == nil {
			return nil
		}
		if err := p.interrupted(err); err != nil {
			return err
		}
	}
}

// interrupted returns why the direction ends after an error of src, or nil when it was
// only woken up. The source may have ended because of what waits to be written: the
// server's end can overtake the wake-up.
func (p *pump) interrupted(err error) *pumpError {
	woken := isTimeout(err) && p.src.wasWoken()
	if err := p.inject(); err != nil {
		return err
	}
	if woken {
		return nil
	}
	return &pumpError{read: err}
}

// burst moves what has arrived, and more until the stream stands between two frames.
func (p *pump) burst() *pumpError {
	large := largePool.Get().(*[largeBuffer]byte)
	defer largePool.Put(large)
	for {
		n, failed := p.fill(large[:])
		if err := p.forward(large[:n]); err != nil {
			return err
		}
		if failed != nil {
			if err := p.interrupted(failed); err != nil {
				return err
			}
		}
		if p.src.ready() {
			continue
		}
		if p.scan.atBoundary() {
			return nil
		}
		if err := p.wait(); err != nil {
			return err
		}
	}
}

// fill reads what has arrived, as much as buf holds.
func (p *pump) fill(buf []byte) (n int, err error) {
	for {
		m, err := p.src.read(buf[n:])
		if n += m; err != nil || n < worthMore || n == len(buf) || !p.src.ready() {
			if n > 0 && p.active != nil {
				p.active.Store(time.Now().UnixNano())
			}
			return n, err
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
	if len(data) == 0 {
		return nil
	}
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
