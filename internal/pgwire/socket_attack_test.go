package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// socketPair connects a socket and its peer, one of package net, at a listener that
// nobody else uses meanwhile.
func socketPair(t *testing.T, l net.Listener) (socket net.Conn, peer *net.TCPConn) {
	t.Helper()
	dialled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := Sockets(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = dialled.SetDeadline(time.Now().Add(testTimeout))
	guard(t, accepted, dialled)
	return accepted, dialled.(*net.TCPConn)
}

func listenHere(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// numbered is a stream of one number, over and over.
type numbered struct {
	pattern []byte
	at      int
}

func newNumbered(number uint64) *numbered {
	return &numbered{pattern: bytes.Repeat(binary.BigEndian.AppendUint64(nil, number), 1000)}
}

// take checks the next bytes of the stream.
func (s *numbered) take(p []byte) error {
	from := s.at % 8
	if want := s.pattern[from : from+len(p)]; !bytes.Equal(p, want) {
		return fmt.Errorf("behind %d bytes of connection %x comes %x", s.at, s.pattern[:8], p)
	}
	s.at += len(p)
	return nil
}

// gone reports whether err is what a connection ends with that one side has closed.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// TestSocketDescriptorsAreNotMixed: what is read from and written to sockets while
// they are closed neither comes from nor goes to the connections that get their file
// descriptors next. Each connection carries its own number, many come and go at
// once, and none may see that of another.
func TestSocketDescriptorsAreNotMixed(t *testing.T) {
	t.Parallel()
	const atOnce, rounds = 8, 25
	var numbers atomic.Uint64
	var workers sync.WaitGroup
	for range atOnce {
		l := listenHere(t)
		workers.Go(func() {
			for range rounds {
				dialled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				accepted, err := Sockets(l).Accept()
				if err != nil {
					t.Error(err)
					return
				}
				// Spread over all bytes, so that no two numbers look alike at a shift.
				number := numbers.Add(1) * 0x9e3779b97f4a7c15
				closeInUse(t, [2]net.Conn{newSocket(dialled), accepted}, number)
			}
		})
	}
	workers.Wait()
}

// closeInUse has both ends of a connection write and read as fast as they can, and
// closes them one after the other meanwhile.
func closeInUse(t *testing.T, ends [2]net.Conn, number uint64) {
	t.Helper()
	enough := make(chan struct{}, 2)
	var users sync.WaitGroup
	for _, end := range ends {
		users.Go(func() {
			buf := newNumbered(number).pattern[:8*(1+rand.IntN(900))]
			for {
				if _, err := end.Write(buf); err != nil {
					if !gone(err) {
						t.Errorf("write: %v", err)
					}
					return
				}
			}
		})
		users.Go(func() {
			stream, buf, limit := newNumbered(number), make([]byte, 1000), rand.IntN(20_000)
			for told := false; ; {
				n, err := end.Read(buf)
				if wrong := stream.take(buf[:n]); wrong != nil {
					t.Error(wrong)
				}
				if !told && (stream.at > limit || err != nil) {
					told = true
					enough <- struct{}{}
				}
				if err != nil {
					if !gone(err) {
						t.Errorf("read: %v", err)
					}
					return
				}
			}
		})
	}
	<-enough
	for _, end := range ends {
		if err := end.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	users.Wait()
}

// TestSocketClosedByMany: whatever waits at a socket returns when it is closed, also
// by several at once, of whom one has closed it.
func TestSocketClosedByMany(t *testing.T) {
	t.Parallel()
	l := listenHere(t)
	for range 20 {
		conn, _ := socketPair(t, l) // whose peer neither reads nor writes
		var users, closers sync.WaitGroup
		started := make(chan struct{}, 8)
		for i := range 8 {
			users.Go(func() {
				use, buf := conn.Read, make([]byte, 64<<10)
				if i%2 == 0 {
					use = conn.Write
				}
				started <- struct{}{}
				for {
					if _, err := use(buf); err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Errorf("got %v", err)
						}
						return
					}
				}
			})
		}
		for range 8 {
			<-started
		}
		var closed atomic.Int32
		for range 4 {
			closers.Go(func() {
				switch err := conn.Close(); {
				case err == nil:
					closed.Add(1)
				case !errors.Is(err, net.ErrClosed):
					t.Errorf("close: %v", err)
				}
			})
		}
		closers.Wait()
		users.Wait()
		if n := closed.Load(); n != 1 {
			t.Errorf("%d have closed it", n)
		}
	}
}

// TestSocketUnderDeadlines: deadlines that several goroutines set all the time
// interrupt reads and writes anywhere, and lose, double or reorder nothing.
func TestSocketUnderDeadlines(t *testing.T) {
	t.Parallel()
	conn, peer := socketPair(t, listenHere(t))
	const size = 8 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>8) ^ byte(i)
	}
	var storm, traffic sync.WaitGroup
	over := make(chan struct{})
	for _, set := range []func(time.Time) error{conn.SetDeadline, conn.SetReadDeadline, conn.SetWriteDeadline} {
		storm.Go(func() {
			for {
				for _, at := range []time.Time{past, {}, time.Now().Add(time.Microsecond), {}, time.Now().Add(time.Hour)} {
					_ = set(at)
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	var interrupted atomic.Int64
	first := make(chan struct{}) // closed when something was interrupted
	again := func(err error) bool {
		if err != nil && !isTimeout(err) {
			t.Error(err)
			return false
		}
		if err != nil && interrupted.Add(1) == 1 {
			close(first)
		}
		return true
	}
	traffic.Go(func() {
		for rest := data; len(rest) > 0; {
			n, err := conn.Write(rest[:min(len(rest), 100_000)])
			if rest = rest[n:]; !again(err) {
				return
			}
		}
	})
	traffic.Go(func() {
		got := make([]byte, size)
		for at := 0; at < size; {
			n, err := conn.Read(got[at:min(at+50_000, size)])
			if at += n; !again(err) {
				return
			}
		}
		if !bytes.Equal(got, data) {
			t.Error("what was read is not what the peer wrote")
		}
	})
	traffic.Go(func() {
		select { // a read waits, which the next deadline interrupts
		case <-first:
		case <-time.After(testTimeout):
			t.Error("no deadline has interrupted anything")
			peer.Close()
			return
		}
		if _, err := peer.Write(data); err != nil {
			t.Errorf("the peer writes: %v", err)
		}
	})
	got := make([]byte, size)
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what arrives is not what was written, %v", err)
	}
	traffic.Wait()
	close(over)
	storm.Wait()
	if interrupted.Load() == 0 {
		t.Error("no deadline has interrupted anything")
	}
}

// blockedWrite begins a write of more than fits between the two ends, of which the
// peer has read the first byte. It returns what is written and where the outcome
// comes.
func blockedWrite(t *testing.T, conn net.Conn, peer *net.TCPConn) (data []byte, ended chan error) {
	t.Helper()
	if err := errors.Join(tcpBelow(t, conn).SetWriteBuffer(64<<10), peer.SetReadBuffer(64<<10)); err != nil {
		t.Fatal(err)
	}
	data = make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(i>>8) ^ byte(i)
	}
	ended = make(chan error, 1)
	go func() {
		n, err := conn.Write(data)
		if err == nil && n != len(data) {
			err = fmt.Errorf("%d bytes written, without an error", n)
		}
		ended <- err
	}()
	if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return data, ended
}

// TestSocketZeroWindow: a peer that reads nothing, then drop by drop, then all.
func TestSocketZeroWindow(t *testing.T) {
	t.Parallel()
	conn, peer := socketPair(t, listenHere(t))
	data, ended := blockedWrite(t, conn, peer)
	got := append(data[:1:1], make([]byte, len(data)-1)...)
	for at := 1; at < 5000; at++ {
		if _, err := peer.Read(got[at : at+1]); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the write has ended with %v while most of it waits", err)
	default:
	}
	if _, err := io.ReadFull(peer, got[5000:]); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what arrives is not what was written, %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSocketEndsInMidWrite: a write that waits ends when the peer resets the
// connection, and when this side closes it.
func TestSocketEndsInMidWrite(t *testing.T) {
	t.Parallel()
	l := listenHere(t)
	conn, peer := socketPair(t, l)
	_, ended := blockedWrite(t, conn, peer)
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	_ = peer.SetLinger(0)
	peer.Close()
	// One of the two gets the error of the connection, the other finds it ended.
	for op, err := range map[string]error{"write": <-ended, "read": <-read} {
		if failed, ok := errors.AsType[*net.OpError](err); err != io.EOF && (!ok || failed.Op != op || !gone(err)) { //nolint:errorlint // io.Reader wants the very value
			t.Errorf("%s: %v", op, err)
		}
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after the reset: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}

	conn, peer = socketPair(t, l)
	data, ended := blockedWrite(t, conn, peer)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if got, err := io.ReadAll(peer); err != nil || !bytes.HasPrefix(data[1:], got) {
		t.Errorf("%d bytes arrive that are not what was written, %v", len(got), err)
	}
}
