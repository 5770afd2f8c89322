package pgwire

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net"
	"slices"
	"sync"
)

// Lengths of our cancel secrets. 32 bytes is what PostgreSQL 18 sends; up to 256
// are allowed, so there is room for the number of a node in front. The 4 bytes of
// protocol 3.0 have none to spare: every bit of them is there not to be guessed.
const (
	shortSecret = 4
	longSecret  = 32
)

// CancelKeys maps the cancel keys shown to clients to running sessions. A key is
// PostgreSQL's process id, on which clients and tools depend, with a secret of
// ours: PostgreSQL's own secret never leaves the gateway.
//
// The zero value is ready; it is safe for concurrent use.
type CancelKeys struct {
	// Allow is asked before a key is looked up, with the address that the request
	// came from. It bounds guessing at the short secrets of protocol 3.0: answer
	// false to one who asks too often. Nil allows everything.
	Allow func(from net.Addr) bool

	mu sync.Mutex
	// byPID is guarded by mu. Sessions of several servers may have one process id.
	byPID map[uint32][]*cancelEntry
}

type cancelEntry struct {
	secret []byte
	cancel func(context.Context) error
}

// Register makes a secret for a session whose client speaks protocol 3.minor:
// 4 bytes on 3.0, 32 on 3.2. Cancel calls cancel when a client presents it.
// Call release when the session ends; after that cancel is not called again.
func (k *CancelKeys) Register(pid uint32, minor uint16, cancel func(context.Context) error) (secret []byte, release func()) {
	size := shortSecret
	if minor >= 2 {
		size = longSecret
	}
	e := &cancelEntry{secret: make([]byte, size), cancel: cancel}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byPID == nil {
		k.byPID = map[uint32][]*cancelEntry{}
	}
	for {
		_, _ = rand.Read(e.secret) // never fails, see crypto/rand
		if k.find(pid, e.secret) == nil {
			break
		}
	}
	k.byPID[pid] = append(k.byPID[pid], e)
	return slices.Clone(e.secret), func() { k.release(pid, e) }
}

func (k *CancelKeys) release(pid uint32, e *cancelEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	rest := slices.DeleteFunc(k.byPID[pid], func(other *cancelEntry) bool { return other == e })
	if len(rest) == 0 {
		delete(k.byPID, pid)
		return
	}
	k.byPID[pid] = rest
}

// Cancel carries out a CancelRequest that came from the given address. A key that
// is not known does nothing, and found is false: the client must not be told.
func (k *CancelKeys) Cancel(ctx context.Context, from net.Addr, pid uint32, secret []byte) (found bool, err error) {
	if k.Allow != nil && !k.Allow(from) {
		return false, nil
	}
	k.mu.Lock()
	e := k.find(pid, secret)
	k.mu.Unlock()
	if e == nil {
		return false, nil
	}
	return true, e.cancel(ctx)
}

// find compares secret with that of every session of pid, in a time that does not
// depend on where they differ. k.mu is held.
func (k *CancelKeys) find(pid uint32, secret []byte) *cancelEntry {
	var found *cancelEntry
	for _, e := range k.byPID[pid] {
		if subtle.ConstantTimeCompare(e.secret, secret) == 1 {
			found = e
		}
	}
	return found
}
