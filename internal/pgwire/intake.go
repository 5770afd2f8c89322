package pgwire

import (
	"net"
	"sync"
)

const (
	// largeBuffer is what bytes pass through. It comes from a pool when there are any,
	// so a connection that waits holds none. Larger ones gain nothing: a TLS record holds
	// 16 KiB.
	largeBuffer = 32 << 10
	// ownBuffer is what a connection holds that cannot wait without a buffer.
	ownBuffer = 8 << 10
	// recordHeader is the size of a TLS record's header (RFC 8446, section 5.1).
	recordHeader = 5
)

var largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// BelowTLS returns what TLS is to be made on for a [Relay]: conn, which a relay can
// wait for without the stack and the buffers that a read of TLS needs. Until then it
// is read as always.
func BelowTLS(conn net.Conn) net.Conn { return &intake{Conn: conn} }

// intake hands out what has arrived on a connection. A relay waits here, below TLS,
// and then reads through TLS what is there. Only one goroutine reads.
//
// TLS gets whole records, one at a time: it need not be asked in vain, and with the
// beginning of the next record behind one, crypto/tls would keep a buffer for two.
type intake struct {
	net.Conn
	plain   bool    // no TLS above
	records records // what was handed out ends there; not followed where plain

	polled bool   // reads do not wait, await does
	fresh  waiter // nil: Conn cannot wait without a buffer
	own    []byte // which then is this one

	buf  *[largeBuffer]byte // of largePool; what rest is in, unless that is own
	rest []byte             // has arrived and was not handed out
	err  error              // how the connection ended; handed out after rest
}

// waiter is a connection that takes a buffer only when there is something to read.
type waiter interface {
	// readFresh waits for at least one byte and reads into a buffer of largePool.
	readFresh() (*[largeBuffer]byte, int, error)
}

// nothingYet is what a read returns instead of waiting. TLS may go on after it.
type nothingYet struct{} //nolint:errname // a state, not a failure

func (nothingYet) Error() string   { return "nothing to read yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// errNothing is the one value of nothingYet.
var errNothing net.Error = nothingYet{}

// poll makes reads return errNothing instead of waiting.
func (in *intake) poll() {
	in.polled = true
	in.fresh = waiterOf(in.Conn)
	if in.fresh == nil && in.own == nil {
		in.own = make([]byte, ownBuffer)
	}
}

// block makes reads wait again.
func (in *intake) block() { in.polled = false }

// waiterOf returns what waits below conn, nil if nothing can.
func waiterOf(conn net.Conn) waiter {
	for {
		if w, ok := conn.(waiter); ok {
			return w
		}
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		if _, secured := conn.(interface{ Handshake() error }); secured {
			return nil // what is below TLS is not what is read from it
		}
		conn = above.NetConn()
	}
}

// await waits until Read has something to return. Its errors are time-outs of the read
// deadline, all others are left to Read.
func (in *intake) await() error {
	for !in.ready() {
		err := in.receive()
		if err != nil && isTimeout(err) {
			return err
		}
		in.err = err
	}
	return nil
}

// ready tells that there is something to hand out.
func (in *intake) ready() bool { return in.err != nil || len(in.rest) > 0 && in.whole() }

// whole tells that the next record is there, or as much of it as there is room for.
func (in *intake) whole() bool {
	return in.plain || len(in.rest) >= in.records.need(in.rest) || len(in.rest) == len(in.room())
}

// room returns what rest is in.
func (in *intake) room() []byte {
	if in.buf != nil {
		return in.buf[:]
	}
	return in.own
}

// receive waits for more.
func (in *intake) receive() (err error) {
	n := len(in.rest)
	switch {
	case n > 0: // the rest of a record comes soon, or never
		copy(in.room(), in.rest)
		n, err = in.Conn.Read(in.room()[n:])
		in.rest = in.room()[:len(in.rest)+n]
	case in.fresh != nil:
		if in.buf, n, err = in.fresh.readFresh(); n > 0 {
			in.rest = in.buf[:n]
		}
	default:
		n, err = in.Conn.Read(in.own)
		in.rest = in.own[:n]
	}
	return err
}

// Read hands out what has arrived, one TLS record at most.
func (in *intake) Read(p []byte) (int, error) {
	switch {
	case in.polled && !in.ready():
		return 0, errNothing
	case len(in.rest) == 0:
		return in.readThrough(p)
	}
	n := min(len(p), len(in.rest))
	if !in.plain {
		n = in.records.cut(in.rest[:n])
	}
	copy(p, in.rest[:n])
	if in.rest = in.rest[n:]; len(in.rest) == 0 && in.buf != nil {
		largePool.Put(in.buf)
		in.buf, in.rest = nil, nil
	}
	return n, nil
}

// readThrough reads from the connection when nothing is left.
func (in *intake) readThrough(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.Conn.Read(p)
	if !in.plain {
		for read := p[:n]; len(read) > 0; {
			read = read[in.records.cut(read):]
		}
	}
	return n, err
}

// NetConn returns the connection below.
func (in *intake) NetConn() net.Conn { return in.Conn }

// CloseWrite closes the writing half of the connection.
func (in *intake) CloseWrite() error { return closeWrite(in.Conn) }

// records follows the TLS records in a stream (RFC 8446, section 5.1).
type records struct {
	left int // bytes of the current one still to come
	head [recordHeader]byte
	have int // bytes of head
}

// need returns how many bytes complete the record under way, or else the next one, which
// begins with data. As long as its header is not there, that is what is needed.
func (r *records) need(data []byte) int {
	if r.left > 0 {
		return r.left
	}
	head := r.head
	if n := copy(head[r.have:], data); r.have+n < recordHeader {
		return recordHeader - r.have
	}
	return recordHeader - r.have + recordSize(head)
}

// cut takes the next bytes of the stream, as many of data as belong to one record, and
// returns their number.
func (r *records) cut(data []byte) int {
	n := 0
	if r.left == 0 {
		n = copy(r.head[r.have:], data)
		if r.have += n; r.have < recordHeader {
			return n
		}
		r.left, r.have = recordSize(r.head), 0
	}
	body := min(r.left, len(data)-n)
	r.left -= body
	return n + body
}

// recordSize returns how long the body is that follows a header.
func recordSize(head [recordHeader]byte) int { return int(head[3])<<8 | int(head[4]) }
