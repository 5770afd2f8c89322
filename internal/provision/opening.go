package provision

import (
	"context"
	"time"
)

// opening is the time in which an account has a password. Logins that come
// while it lasts share it.
type opening struct {
	ready chan struct{} // closed when the password is set, or could not be
	gone  chan struct{} // closed when it is taken away again

	// Set before ready is closed.
	key    key
	secret []byte
	failed bool

	// The rest is guarded by accounts.mu.
	since   time.Time
	logins  int  // that need it
	spoiled bool // PostgreSQL has refused a login with it
}

// joinedFor is how long logins may join an opening, so that it ends, and other
// agents have their turn.
const joinedFor = time.Second

// open returns the opening of the account with one more login on it, ready to be
// used, or a new one that the caller must set a password for and pass to opened.
// The error is that of ctx; an opening that comes with it must be left all the same.
func (a *accounts) open(ctx context.Context, e *entry) (o *opening, first bool, err error) {
	for {
		o, first, wait := a.tryOpen(e)
		if first {
			return o, true, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return o, false, ctx.Err()
		}
		if o != nil && !o.failed {
			return o, false, nil
		}
	}
}

// tryOpen joins the opening, or begins one, or returns what to wait for.
func (a *accounts) tryOpen(e *entry) (o *opening, first bool, wait <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o = e.opening
	switch {
	case o == nil:
		o = &opening{ready: make(chan struct{}), gone: make(chan struct{}), since: time.Now(), logins: 1}
		e.opening = o
		return o, true, nil
	case o.logins > 0 && !o.spoiled && time.Since(o.since) < joinedFor:
		o.logins++
		return o, false, o.ready
	default:
		return nil, false, o.gone
	}
}

// opened notes that the password is set, or that it could not be: then the opening
// keeps its first login for ever, and nobody takes the password away.
func (a *accounts) opened(e *entry, o *opening, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o.since = time.Now()
	if o.failed = err != nil; o.failed {
		e.opening = nil
		close(o.gone)
	}
	close(o.ready)
}

// openKey returns the key of the password that the account has, if it has one.
func (a *accounts) openKey(e *entry) key {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.opening == nil {
		return key{}
	}
	select {
	case <-e.opening.ready:
		return e.opening.key
	default:
		return key{}
	}
}

// spoil makes logins to come use another password.
func (a *accounts) spoil(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.opening != nil {
		e.opening.spoiled = true
	}
}

// lastLogin takes a login off the opening and reports whether it was the last one.
func (a *accounts) lastLogin(o *opening) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	o.logins--
	return o.logins == 0
}

// closed notes that the password is no more.
func (a *accounts) closed(e *entry, o *opening) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.opening == o {
		e.opening = nil
	}
	close(o.gone)
}
