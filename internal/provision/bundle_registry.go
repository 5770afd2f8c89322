package provision

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// bundles is what this process knows about the bundles of the server.
type bundles struct {
	// writing lets one bundle be changed at a time: two that select the same
	// tables would make PostgreSQL refuse one of them.
	writing *semaphore.Weighted

	mu     sync.Mutex // guards the maps and the marked fields of the entries
	byName map[string]*bundleEntry
}

// bundleEntry is one bundle that sessions here use, or did not long ago.
type bundleEntry struct {
	name     string
	database string
	gate     *semaphore.Weighted // one verification at a time

	// The rest is guarded by bundles.mu.
	uses    int
	lastUse time.Time
	wanted  BundleWant // of the newest session
	state   *verified  // nil: not known
	last    *verified  // the last state that was known
	failure string     // of the last background check, so that it is reported once
}

func newBundles() *bundles {
	return &bundles{writing: semaphore.NewWeighted(1), byName: map[string]*bundleEntry{}}
}

// use returns the entry of a bundle, which must be left again.
func (b *bundles) use(name string, w BundleWant) *bundleEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byName[name]
	if e == nil {
		e = &bundleEntry{name: name, database: w.Database, gate: semaphore.NewWeighted(1)}
		b.byName[name] = e
	}
	e.uses++
	e.lastUse = time.Now()
	e.wanted = w
	return e
}

func (b *bundles) leave(e *bundleEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.uses--
	e.lastUse = time.Now()
}

func (b *bundles) verified(e *bundleEntry) *verified {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.state
}

func (b *bundles) setVerified(e *bundleEntry, v *verified) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.state = v
	if v != nil {
		e.last = v
	}
}

// lastVerified returns the last known state of a bundle, which may be out of date.
func (b *bundles) lastVerified(e *bundleEntry) *verified {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.last
}

// forget makes the next session look at the bundle again.
func (b *bundles) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.byName[name]; e != nil {
		e.state = nil
	}
}

func (b *bundles) want(e *bundleEntry) BundleWant {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.wanted
}

// followed returns the bundles to be kept current, those with sessions first, and
// forgets those that have had no session since the time.
func (b *bundles) followed(since time.Time) []*bundleEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var used, idle []*bundleEntry
	maps.DeleteFunc(b.byName, func(_ string, e *bundleEntry) bool {
		switch {
		case e.uses > 0:
			used = append(used, e)
		case e.lastUse.Before(since):
			return true
		default:
			idle = append(idle, e)
		}
		return false
	})
	return append(used, idle...)
}

// count returns how many bundles are known here.
func (b *bundles) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.byName)
}

// known reports whether sessions here use the bundle, or did not long ago.
func (b *bundles) known(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byName[name] != nil
}

// news notes why a background check failed, "" for one that did not, and reports
// whether that was not known yet.
func (b *bundles) news(e *bundleEntry, failure string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := e.failure == failure
	e.failure = failure
	return !known && failure != ""
}

// exclusively runs work while nobody else here verifies the bundle.
func (e *bundleEntry) exclusively(ctx context.Context, work func() error) error {
	if err := e.gate.Acquire(ctx, 1); err != nil {
		return tooLate(err)
	}
	defer e.gate.Release(1)
	return work()
}

func isComment(sql string) bool { return strings.HasPrefix(sql, "COMMENT ") }
