package signin

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// The guard slows down guessing. It counts what failed within a window three ways:
//
//	user at a source    5   then this source waits before it tries this user again
//	source             50   then this source waits: one machine tries many users
//	user              100   then this user waits: many machines try one user
//
// Where a user signed in before, only the first limit holds for that user. A
// stranger can thus never keep a person out of the places where that person
// usually is, neither from far away nor from the same office; elsewhere not for
// longer than the attack and one window.
//
// An attempt counts while it runs, so that a thousand at once get no more
// guesses than one after the other. Names that do not exist are counted like
// others: a lockout tells nothing about who exists.
//
// Counts live in memory. A restart forgets them; who can restart the hub has no
// need to guess. Memory is bounded: when there are too many counts, some go.
const (
	window     = 15 * time.Minute
	maxPair    = 5
	maxSource  = 50
	maxUser    = 100
	maxTracked = 1 << 16             // counts, and as many known places
	knownFor   = 30 * 24 * time.Hour // after the last success there
)

// place is where a user signs in from, or tries to. A count of all users at a
// source leaves user empty, one of all sources leaves source empty.
type place struct{ user, source string }

type guard struct {
	now func() time.Time
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	tries map[place]*tries
	known map[place]time.Time // last success
}

// tries counts attempts of one window that did not succeed.
type tries struct {
	count int
	ends  time.Time
}

func newGuard(now func() time.Time, log *slog.Logger) *guard {
	return &guard{now: now, log: log, tries: map[place]*tries{}, known: map[place]time.Time{}}
}

// attempt is one sign-in on its way.
type attempt struct {
	guard   *guard
	place   place
	counted []*tries // the first is that of place
}

// begin counts an attempt, or refuses it. Neither name may be empty.
func (g *guard) begin(user, source string) (*attempt, error) {
	a := &attempt{guard: g, place: place{user, source}}
	limits := []struct {
		of  place
		max int
	}{{a.place, maxPair}, {place{source: source}, maxSource}, {place{user: user}, maxUser}}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.makeRoom(now)
	if seen, ok := g.known[a.place]; ok && now.Sub(seen) < knownFor {
		limits = limits[:1]
	}
	for _, l := range limits {
		t := g.tries[l.of]
		if t == nil || !now.Before(t.ends) {
			t = &tries{ends: now.Add(window)}
			g.tries[l.of] = t
		}
		if t.count >= l.max {
			return nil, tooMany(t.ends.Sub(now))
		}
		a.counted = append(a.counted, t)
	}
	for _, t := range a.counted {
		t.count++
	}
	return a, nil
}

func tooMany(wait time.Duration) error {
	minutes := int(wait/time.Minute) + 1
	return fault.New(fault.Unauthenticated, "too many failed sign-ins").
		WithHint(fmt.Sprintf("try again in %d min; an administrator can give you a new password at once: postern ctl users reset", minutes))
}

// forget takes the attempt back.
func (a *attempt) forget() {
	a.guard.mu.Lock()
	defer a.guard.mu.Unlock()
	for _, t := range a.counted {
		t.count--
	}
}

// failed leaves the attempt counted.
func (a *attempt) failed() {
	a.guard.mu.Lock()
	count := a.counted[0].count
	a.guard.mu.Unlock()
	if count >= maxPair {
		a.guard.log.Warn("sign-in locked after failures", "user", a.place.user, "source", a.place.source, "window", window)
	}
}

// succeeded takes the attempt back, clears the failures of the user at this
// source and remembers the place.
func (a *attempt) succeeded() {
	a.forget()
	a.guard.mu.Lock()
	defer a.guard.mu.Unlock()
	delete(a.guard.tries, a.place)
	a.guard.known[a.place] = a.guard.now()
}

// forgive forgets the failures of a user, wherever they came from.
func (g *guard) forgive(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.tries, func(p place, _ *tries) bool { return p.user == user })
}

// makeRoom keeps both maps within bounds: it drops what has ended and, when that
// is not enough, a part of the rest.
func (g *guard) makeRoom(now time.Time) {
	if len(g.tries) >= maxTracked {
		maps.DeleteFunc(g.tries, func(_ place, t *tries) bool { return !now.Before(t.ends) })
		shrink(g.tries)
	}
	if len(g.known) >= maxTracked {
		maps.DeleteFunc(g.known, func(_ place, seen time.Time) bool { return now.Sub(seen) >= knownFor })
		shrink(g.known)
	}
}

// shrink drops entries until an eighth is free. Which ones is left to chance.
func shrink[V any](m map[place]V) {
	for k := range m {
		if len(m) <= maxTracked/8*7 {
			return
		}
		delete(m, k)
	}
}

// unknownSource stands for every source that is not an address.
const unknownSource = "unknown"

// network returns what of a source counts as one: the address without port, and
// for IPv6 the /64 network, which is what one customer gets.
func network(source string) string {
	addr, err := netip.ParseAddr(source)
	if err != nil {
		ap, err := netip.ParseAddrPort(source)
		if err != nil {
			return unknownSource
		}
		addr = ap.Addr()
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return unknownSource
	}
	return prefix.String()
}
