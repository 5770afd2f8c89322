package portmux

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// halfOpen keeps the connections of which nobody has proven yet who they are. When
// there are too many, of one source or in all, the oldest is closed: a well-behaved
// client is through within a few round trips, one that lingers is not missed.
type halfOpen struct {
	maxAll, maxSource int

	mu sync.Mutex
	// all and sources are guarded by mu. Each list has the oldest first.
	all     list.List // of *waiting
	sources map[netip.Prefix]*list.List
	closed  bool
}

// waiting is a connection in halfOpen, whose mutex guards all but conn.
type waiting struct {
	conn     net.Conn
	inAll    *list.Element // nil once it is admitted, closed, or dropped
	source   netip.Prefix
	inSource *list.Element // nil unless it counts for a source
	handedOn bool
}

// add takes conn in. It returns nil when nothing is taken any more.
func (h *halfOpen) add(conn net.Conn) *waiting {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	if h.all.Len() >= h.maxAll {
		h.drop(h.all.Front())
	}
	w := &waiting{conn: conn}
	w.inAll = h.all.PushBack(w)
	return w
}

// assign counts a connection for a source from now on.
func (h *halfOpen) assign(w *waiting, source netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.inAll == nil {
		return // dropped meanwhile
	}
	if s := h.sources[source]; s != nil && s.Len() >= h.maxSource {
		h.drop(s.Front())
	}
	s := h.sources[source]
	if s == nil {
		if h.sources == nil {
			h.sources = map[netip.Prefix]*list.List{}
		}
		s = list.New()
		h.sources[source] = s
	}
	w.source, w.inSource = source, s.PushBack(w)
}

// drop closes a connection, which makes whoever reads it fail. h.mu is held.
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
	w.inAll = nil
	if w.inSource == nil {
		return
	}
	s := h.sources[w.source]
	s.Remove(w.inSource)
	if s.Len() == 0 {
		delete(h.sources, w.source)
	}
}

// handOn notes that a connection now belongs to a target, but still counts. False
// means that it was dropped.
func (h *halfOpen) handOn(w *waiting) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.handedOn = true
	return w.inAll != nil
}

// remove lets go of a connection.
func (h *halfOpen) remove(w *waiting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unlink(w)
}

// close drops all that is not handed on and takes no more.
func (h *halfOpen) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	var next *list.Element
	for e := h.all.Front(); e != nil; e = next {
		if next = e.Next(); !e.Value.(*waiting).handedOn {
			h.drop(e)
		}
	}
}

// SourceOf returns the network that is counted as one source: an IPv4 address, or
// the /64 that an IPv6 host has to itself. It is zero for what is no address of the
// internet.
func SourceOf(remote net.Addr) netip.Prefix {
	end, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Prefix{}
	}
	addr := end.Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
