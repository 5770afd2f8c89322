package portmux

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// halfOpen keeps the connections that have not shown yet what they are. When there
// are too many, of one source or in all, the oldest is closed: a well-behaved
// client is through within a round trip or two, one that lingers is not missed.
type halfOpen struct {
	maxAll, maxSource int

	mu sync.Mutex
	// all and sources are guarded by mu. Each list has the oldest first.
	all     list.List // of *waiting
	sources map[netip.Prefix]*list.List
	closed  bool
}

type waiting struct {
	conn     net.Conn
	source   netip.Prefix
	inAll    *list.Element
	inSource *list.Element
}

// add takes conn in. It returns nil when nothing is taken any more.
func (h *halfOpen) add(conn net.Conn) *waiting {
	w := &waiting{conn: conn, source: sourceOf(conn)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	if h.all.Len() >= h.maxAll {
		h.drop(h.all.Front())
	}
	if s := h.sources[w.source]; s != nil && s.Len() >= h.maxSource {
		h.drop(s.Front())
	}
	s := h.sources[w.source]
	if s == nil {
		if h.sources == nil {
			h.sources = map[netip.Prefix]*list.List{}
		}
		s = list.New()
		h.sources[w.source] = s
	}
	w.inAll, w.inSource = h.all.PushBack(w), s.PushBack(w)
	return w
}

// drop closes a connection, which makes its peek fail. h.mu is held.
func (h *halfOpen) drop(e *list.Element) {
	w := e.Value.(*waiting)
	w.conn.Close()
	h.unlink(w)
}

func (h *halfOpen) unlink(w *waiting) {
	if w.inAll == nil {
		return
	}
	h.all.Remove(w.inAll)
	s := h.sources[w.source]
	s.Remove(w.inSource)
	if s.Len() == 0 {
		delete(h.sources, w.source)
	}
	w.inAll = nil
}

// remove lets go of a connection and reports whether it is still ours: false means
// that it was dropped.
func (h *halfOpen) remove(w *waiting) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	ours := w.inAll != nil
	h.unlink(w)
	return ours
}

// close drops all and takes no more.
func (h *halfOpen) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for h.all.Len() > 0 {
		h.drop(h.all.Front())
	}
}

// sourceOf returns the network that is counted as one source: an IPv4 address, or
// the /64 that an IPv6 host has to itself.
func sourceOf(conn net.Conn) netip.Prefix {
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := addr.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
