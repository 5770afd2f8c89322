package pgwire

import (
	"crypto/tls"
	"sync"
)

// GroupMemory remembers which servers take only NIST curves for the TLS key
// exchange, so that a connection to them needs no second round trip. PostgreSQL
// up to 17 is one: it knows P-256 only, while Go offers X25519 first.
//
// The zero value is ready; it is safe for concurrent use. Keep one for each
// registered database: a nil *GroupMemory remembers nothing.
type GroupMemory struct {
	mu   sync.Mutex
	nist map[string]bool // by address, true once a server asked for P-256
}

// nistGroups are offered to a server that is known to want P-256. Go sends the
// key share of the first.
var nistGroups = []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521}

// groups returns what to offer to addr; nil means Go's default.
func (m *GroupMemory) groups(addr string) []tls.CurveID {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nist[addr] {
		return nistGroups
	}
	return nil
}

// learn notes how the handshake with addr went.
func (m *GroupMemory) learn(addr string, s tls.ConnectionState) {
	if m == nil || !s.HelloRetryRequest || s.CurveID != tls.CurveP256 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nist == nil {
		m.nist = map[string]bool{}
	}
	m.nist[addr] = true
}

// forget drops what is remembered of addr and reports whether anything was.
func (m *GroupMemory) forget(addr string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.nist[addr]
	delete(m.nist, addr)
	return known
}
