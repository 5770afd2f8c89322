package agent_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// faulty is a way between two programs on which anything can happen. What happens,
// happens to the connections that are open at that moment.
type faulty struct {
	addr string
	// pause comes before each piece that is carried, which has at most size bytes.
	pause atomic.Int64 // time.Duration
	size  atomic.Int64

	mu    sync.Mutex // guards the fields below
	links []*link
	over  bool // a link that comes now is cut at once
}

// link is one connection on the way.
type link struct {
	near, far *net.TCPConn  // the side that dialled, and the side dialled
	frozen    chan struct{} // closed: nothing is carried any more, and nobody is told
	freeze    sync.Once
}

// newFaulty carries connections to target until the test ends.
func newFaulty(t *testing.T, target string) *faulty {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{addr: l.Addr().String()}
	f.size.Store(32 << 10)
	var links sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		f.over = true
		f.mu.Unlock()
		f.cut()
		links.Wait()
	})
	links.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			k := &link{near: near.(*net.TCPConn), far: far.(*net.TCPConn), frozen: make(chan struct{})}
			f.mu.Lock()
			f.links = append(f.links, k)
			if f.over {
				k.near.Close()
				k.far.Close()
			}
			f.mu.Unlock()
			links.Go(func() { f.carry(k, k.near, k.far) })
			links.Go(func() { f.carry(k, k.far, k.near) })
		}
	})
	return f
}

// carry moves what comes from one side to the other, and its end too.
func (f *faulty) carry(k *link, from, to *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf[:min(f.size.Load(), int64(len(buf)))])
		select {
		case <-k.frozen:
			return
		case <-time.After(time.Duration(f.pause.Load())):
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

// each does something to every open connection.
func (f *faulty) each(do func(*link)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.links {
		do(k)
	}
}

// cut ends both sides properly, as far as TCP goes.
func (f *faulty) cut() {
	f.each(func(k *link) { k.near.Close(); k.far.Close() })
}

// reset ends both sides without a goodbye.
func (f *faulty) reset() {
	f.each(func(k *link) {
		_ = k.near.SetLinger(0)
		_ = k.far.SetLinger(0)
		k.near.Close()
		k.far.Close()
	})
}

// silence lets nothing pass any more, and tells nobody.
func (f *faulty) silence() {
	f.each(func(k *link) { k.freeze.Do(func() { close(k.frozen) }) })
}

// endToFar tells the far side that nothing more comes from the near one, while the
// other direction goes on.
func (f *faulty) endToFar() { f.each(func(k *link) { _ = k.far.CloseWrite() }) }

// endToNear is the same the other way round.
func (f *faulty) endToNear() { f.each(func(k *link) { _ = k.near.CloseWrite() }) }
