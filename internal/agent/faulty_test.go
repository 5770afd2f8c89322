package agent_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// faultyWay is what lies between two programs, and can break.
type faultyWay struct {
	addr   string
	strike func() // what happens to the connections that are open at that moment
	cut    func() // ends them; what comes later gets through
}

// faulty is a way of our own, for what toxiproxy cannot do: end one direction and let
// the other go on, or end and tell nobody.
type faulty struct {
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

// newFaulty returns a way on which a fault happens to each link. It carries
// connections to target until the test ends.
func newFaulty(t *testing.T, target string, fault func(*link)) faultyWay {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{}
	var links sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		f.over = true
		f.mu.Unlock()
		f.each((*link).cut)
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
				k.cut()
			}
			f.mu.Unlock()
			links.Go(func() { k.carry(k.near, k.far) })
			links.Go(func() { k.carry(k.far, k.near) })
		}
	})
	return faultyWay{
		addr:   l.Addr().String(),
		strike: func() { f.each(fault) },
		cut:    func() { f.each((*link).cut) },
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

// carry moves what comes from one side to the other, and its end too. The pauses let
// others run while a stream keeps all buffers full.
func (k *link) carry(from, to *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-k.frozen:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

// cut ends both sides properly, as far as TCP goes.
func (k *link) cut() { k.near.Close(); k.far.Close() }

// silence lets nothing pass any more, and tells nobody.
func (k *link) silence() { k.freeze.Do(func() { close(k.frozen) }) }

// endToFar tells the far side that nothing more comes from the near one, while the
// other direction goes on.
func (k *link) endToFar() { _ = k.far.CloseWrite() }

// endToNear is the same the other way round.
func (k *link) endToNear() { _ = k.near.CloseWrite() }
