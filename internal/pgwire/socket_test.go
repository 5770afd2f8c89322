package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// TestSocketIsAConnection: a socket does what a [net.TCPConn] does.
func TestSocketIsAConnection(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(net.Conn) net.Conn{"net": func(c net.Conn) net.Conn { return c }, "socket": newSocket} {
		for what, test := range map[string]func(t *testing.T, conn, peer net.Conn){
			"much data": muchData, "end of file": endOfFile, "deadlines": deadlines, "close": closeWhileReading,
			"reset": reset, "several writers": severalWriters,
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				peer, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				conn, peer = guard(t, wrap(conn), peer)
				_ = peer.SetDeadline(time.Now().Add(testTimeout))
				test(t, conn, peer)
			})
		}
	}
}

// muchData is more than the kernel takes at once, so that both have to wait.
func muchData(t *testing.T, conn, peer net.Conn) {
	data := make([]byte, 16<<20)
	for i := range data {
		data[i] = byte(i >> 9)
	}
	sent := make(chan error, 1)
	go func() {
		n, err := conn.Write(data)
		if err == nil && n != len(data) {
			err = fmt.Errorf("%d bytes written", n)
		}
		sent <- err
	}()
	back := make(chan error, 1)
	go func() { // at the same time the other way
		got := make([]byte, len(data))
		_, err := io.ReadFull(conn, got)
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("what was read is not what was sent")
		}
		back <- err
	}()
	returned := make(chan error, 1)
	go func() {
		_, err := peer.Write(data)
		returned <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what arrives is not what was written, %v", err)
	}
	if err := errors.Join(<-sent, <-back, <-returned); err != nil {
		t.Error(err)
	}
}

func endOfFile(t *testing.T, conn, peer net.Conn) {
	if n, err := conn.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing read: %d, %v", n, err)
	}
	if n, err := conn.Write(nil); n != 0 || err != nil {
		t.Errorf("nothing written: %d, %v", n, err)
	}
	if _, err := peer.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(peer); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "last" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // io.Reader wants the very value
		t.Errorf("after the end: %v", err)
	}
	if _, err := conn.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(conn); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(peer); string(got) != "answer" || err != nil {
		t.Errorf("the peer got %q, %v", got, err)
	}
}

func deadlines(t *testing.T, conn, peer net.Conn) {
	_ = conn.SetReadDeadline(past)
	_, err := conn.Read(make([]byte, 1))
	wantTimeout(t, "read", err)
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err = conn.Read(make([]byte, 1))
	wantTimeout(t, "read", err)

	woken := make(chan error, 1)
	_ = conn.SetReadDeadline(time.Time{})
	go func() {
		_, err := conn.Read(make([]byte, 1))
		woken <- err
	}()
	_ = conn.SetReadDeadline(past)
	wantTimeout(t, "read", <-woken)

	_ = conn.SetReadDeadline(time.Time{})
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("after the deadlines: %d bytes, %v", n, err)
	}

	large, written := make([]byte, 64<<20), 0
	for written == 0 { // on a busy machine the deadline may pass before anything is written
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		n, err := conn.Write(large) // nobody reads
		wantTimeout(t, "write", err)
		written += n
	}
	conn.Close()
	if got, err := io.Copy(io.Discard, peer); got != int64(written) || err != nil {
		t.Errorf("%d bytes were said to be written, %d arrive, %v", written, got, err)
	}
}

func wantTimeout(t *testing.T, op string, err error) {
	t.Helper()
	failed, ok := errors.AsType[*net.OpError](err)
	if !ok || !errors.Is(err, os.ErrDeadlineExceeded) || !isTimeout(err) || failed.Op != op {
		t.Errorf("got %v, want a time-out of a %s", err, op)
	}
}

func closeWhileReading(t *testing.T, conn, _ net.Conn) {
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}()
	conn.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

func reset(t *testing.T, conn, peer net.Conn) {
	_ = peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	_, err := conn.Read(make([]byte, 1))
	failed, ok := errors.AsType[*net.OpError](err)
	if !ok || failed.Op != "read" || failed.Source == nil || failed.Addr == nil {
		t.Fatalf("read: %v", err)
	}
	if e, ok := errors.AsType[*os.SyscallError](err); !ok || e.Syscall != "read" {
		t.Errorf("read: %v", err)
	}
	_, err = conn.Write([]byte("x"))
	if e, ok := errors.AsType[*os.SyscallError](err); !ok || e.Syscall != "write" {
		t.Errorf("write: %v", err)
	}
}

// severalWriters: what one call writes stays together.
func severalWriters(t *testing.T, conn, peer net.Conn) {
	const size, each = 100_000, 20
	var writers sync.WaitGroup
	for c := range byte(4) {
		writers.Go(func() {
			for range each {
				if _, err := conn.Write(bytes.Repeat([]byte{c}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	got := make([]byte, size)
	for range 4 * each {
		if _, err := io.ReadFull(peer, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, bytes.Repeat(got[:1], size)) {
			t.Fatal("two writes are mixed")
		}
	}
	writers.Wait()
}
