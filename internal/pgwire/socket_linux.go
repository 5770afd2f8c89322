package pgwire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// socket is a connection of the kernel's that reads and writes without telling the
// scheduler.
//
// Go tells its scheduler of every system call, since it might block. What lasts longer
// than 20 µs loses its processor to another thread, and to watch for that a thread of
// the runtime wakes up 50,000 times a second. A write to a TCP connection lasts about
// as long, as the kernel takes the packet up to the receiver. So each message woke
// two or three threads for nothing: a third and more of the CPU time of a relay with
// small messages.
//
// The file descriptors of Go's connections never block, so the scheduler need not
// know of their system calls. Where one would have to wait, its goroutine waits in Go's
// poller as always. Deadlines and Close work as always, too.
type socket struct {
	stream
	raw         syscall.RawConn
	read, write transfer
}

// stream is a [net.TCPConn] or a [net.UnixConn].
type stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// newSocket returns conn as a socket if it is a connection of the kernel's.
func newSocket(conn net.Conn) net.Conn {
	var opened stream
	switch c := conn.(type) {
	case *net.TCPConn:
		opened = c
	case *net.UnixConn:
		opened = c
	default:
		return conn
	}
	raw, err := opened.SyscallConn()
	if err != nil {
		return conn
	}
	s := &socket{stream: opened, raw: raw}
	s.read.try = func(fd uintptr) bool { return s.read.call(syscall.SYS_READ, fd) }
	s.read.tryFresh = func(fd uintptr) bool { return s.read.callFresh(fd) }
	s.write.try = func(fd uintptr) bool { return s.write.call(syscall.SYS_WRITE, fd) }
	return s
}

// transfer is one direction of a socket. It exists once, so that nothing is allocated
// for each call.
type transfer struct {
	mu sync.Mutex
	// All below is guarded by mu.
	try      func(fd uintptr) bool // call, bound
	tryFresh func(fd uintptr) bool // callFresh, bound; nil for writing
	data     []byte                // not empty
	fresh    *[largeBuffer]byte    // what callFresh has read into
	n        int
	errno    syscall.Errno
}

// call makes a system call with t.data. It reports false when that would have to wait.
func (t *transfer) call(number, fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(&t.data[0])), uintptr(len(t.data)))
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		default:
			t.n, t.errno = max(int(n), 0), errno
			return true
		}
	}
}

// callFresh reads into a buffer that it takes for that. While it would have to wait,
// it holds none.
func (t *transfer) callFresh(fd uintptr) bool {
	buf := largePool.Get().(*[largeBuffer]byte)
	t.begin(buf[:])
	done := t.call(syscall.SYS_READ, fd)
	if t.n > 0 {
		t.fresh = buf
	} else {
		largePool.Put(buf)
	}
	return done
}

// begin is called before the transfer of data, end after it.
func (t *transfer) begin(data []byte) { t.data, t.n, t.errno = data, 0, 0 }

func (t *transfer) end(err error) (int, error) {
	t.data = nil // belongs to the caller
	if err == nil && t.errno != 0 {
		err = t.errno
	}
	return t.n, err
}

func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t := &s.read
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin(p)
	return s.hasRead(t.end(s.raw.Read(t.try)))
}

// NetConn returns the connection that s makes use of.
func (s *socket) NetConn() net.Conn { return s.stream }

// readFresh implements [waiter].
func (s *socket) readFresh() (*[largeBuffer]byte, int, error) {
	t := &s.read
	t.mu.Lock()
	n, err := t.end(s.raw.Read(t.tryFresh))
	buf := t.fresh
	t.fresh = nil
	t.mu.Unlock()
	n, err = s.hasRead(n, err)
	return buf, n, err
}

// hasRead returns what a read returns.
func (s *socket) hasRead(n int, err error) (int, error) {
	switch {
	case err != nil:
		return 0, s.failed("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *socket) Write(p []byte) (int, error) {
	t := &s.write
	t.mu.Lock()
	defer t.mu.Unlock()
	done := 0
	for done < len(p) {
		t.begin(p[done:])
		n, err := t.end(s.raw.Write(t.try))
		done += n
		if err != nil {
			return done, s.failed("write", err)
		}
	}
	return done, nil
}

// failed returns an error as those of package net.
func (s *socket) failed(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // just made by end
		return &net.OpError{Op: op, Net: s.LocalAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
	}
	if e, ok := err.(*net.OpError); ok { //nolint:errorlint // as package net returns it
		e.Op = op // not "raw-read"
	}
	return err
}
