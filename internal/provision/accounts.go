package provision

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// accounts keeps the sessions of this process on one account out of each other's
// way. It saves work; what other processes do is told apart by PostgreSQL's locks.
type accounts struct {
	mu     sync.Mutex
	byUser map[string]*entry
}

// entry is the state of one account while somebody here uses it.
type entry struct {
	user string
	// gate admits any number of activations that only look, or one that changes.
	gate *semaphore.Weighted

	// The rest is guarded by accounts.mu.
	users   int                  // of this entry; it is forgotten when nobody is left
	leases  int                  // sessions that need the account active
	chosen  int                  // those of them that have chosen their roles, see Want.Chosen
	set     string               // the roles that they need, see setOf
	live    []backend            // theirs
	changes int                  // counts changes made through the gate
	ended   map[uint32]time.Time // backends of sessions that have ended
	opening *opening             // the password that the account has; nil for none
}

// backend is the process of a session.
type backend struct {
	pid    uint32
	bundle string // that the session needs; "" for none
	// sure says that the account was seen to be as the session needs it while the
	// session was there: from then on nobody else gives it other roles.
	sure bool
}

// endedFor is how long a backend is known to have ended. Process ids are used again.
const endedFor = time.Minute

// everyone is the weight of the gate: an entry has fewer users at once.
const everyone = 1 << 30

func newAccounts() *accounts { return &accounts{byUser: map[string]*entry{}} }

// use returns the entry of the user, which must be left again.
func (a *accounts) use(user string) *entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byUser[user]
	if e == nil {
		e = &entry{user: user, gate: semaphore.NewWeighted(everyone), ended: map[uint32]time.Time{}}
		a.byUser[user] = e
	}
	e.users++
	return e
}

func (a *accounts) leave(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(a.byUser, e.user)
	}
}

// unclaim takes one lease off the account.
func (a *accounts) unclaim(e *entry, chosen bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.leases--
	if chosen {
		e.chosen--
	}
}

// holds reports whether one of the backends is a session here that is sure of the
// account.
func (a *accounts) holds(e *entry, pids []uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(e.live, func(b backend) bool { return b.sure && slices.Contains(pids, b.pid) })
}

// likely reports whether a session here has lately been sure of the account, and
// of the bundle.
func (a *accounts) likely(e *entry, bundle string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(e.live, func(b backend) bool { return b.sure && b.bundle == bundle })
}

// strangers returns those of the backends that are not of sessions here.
func (a *accounts) strangers(e *entry, pids []uint32) []uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(pids), func(pid uint32) bool {
		_, ended := e.ended[pid]
		return ended || slices.ContainsFunc(e.live, func(b backend) bool { return b.pid == pid })
	})
}

// leased reports whether a session here needs the user's account.
func (a *accounts) leased(user string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byUser[user]
	return e != nil && e.leases > 0
}

// needed returns the roles that sessions here need the user's account to hold, and
// whether those are all the sessions that it has.
func (a *accounts) needed(user string, sessions []uint32) (roles []string, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byUser[user]
	if e == nil || e.leases == 0 {
		return nil, false
	}
	set, _, _ := strings.Cut(e.set, "\x00\x00") // what comes then is no role, see setOf
	here := func(pid uint32) bool {
		return slices.ContainsFunc(e.live, func(b backend) bool { return b.pid == pid })
	}
	return strings.Split(set, "\x00"), !slices.ContainsFunc(sessions, func(pid uint32) bool { return !here(pid) })
}

// end notes backends whose session has ended, and returns all of the account.
func (a *accounts) end(e *entry, pids []uint32) []uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(e.ended, func(_ uint32, since time.Time) bool { return now.Sub(since) > endedFor })
	for _, pid := range pids {
		e.ended[pid] = now
		e.live = slices.DeleteFunc(e.live, func(live backend) bool { return live.pid == pid })
	}
	return slices.Collect(maps.Keys(e.ended))
}

// begin notes a new backend.
func (a *accounts) begin(e *entry, b backend) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(e.ended, b.pid)
	e.live = append(e.live, b)
}

// sure notes that a backend is sure of the account.
func (a *accounts) sure(e *entry, pid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range e.live {
		if e.live[i].pid == pid {
			e.live[i].sure = true
		}
	}
}

// changed counts a change of the account.
func (a *accounts) changed(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.changes++
}

func (a *accounts) generation(e *entry) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return e.changes
}

// exclusively runs work while nobody else here looks at or changes the account.
func (e *entry) exclusively(ctx context.Context, work func() error) error {
	if err := e.gate.Acquire(ctx, everyone); err != nil {
		return tooLate(err)
	}
	defer e.gate.Release(everyone)
	return work()
}

// together runs work while nobody else here changes the account.
func (e *entry) together(ctx context.Context, work func() error) error {
	if err := e.gate.Acquire(ctx, 1); err != nil {
		return tooLate(err)
	}
	defer e.gate.Release(1)
	return work()
}
