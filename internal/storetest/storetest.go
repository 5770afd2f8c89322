// Package storetest is the suite that every store must pass. A store's own test
// calls [Run] and adds only what is special to it.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/store"
)

// Options are what the suite needs to set of a store it opens.
type Options struct {
	SweepEvery     time.Duration // how often expired entries are looked for
	KeepTombstones time.Duration // how long deletions are remembered
}

// Opener opens the same storage each time it is called. The suite closes what it
// opens, and opens again only after closing.
type Opener func(t *testing.T, o Options) store.Store

// Run runs the suite. fresh returns the opener of new, empty storage.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for name, test := range map[string]func(*testing.T, Opener){
		"GetPutDelete":        testGetPutDelete,
		"Conditions":          testConditions,
		"AllOrNothing":        testAllOrNothing,
		"List":                testList,
		"PrefixesAreExact":    testPrefixes,
		"Invalid":             testInvalid,
		"Changes":             testChanges,
		"Expiry":              testExpiry,
		"Horizon":             testHorizon,
		"Watch":               testWatch,
		"WatchSeesExpiry":     testWatchSeesExpiry,
		"WatchEnds":           testWatchEnds,
		"RestartKeeps":        testRestart,
		"ConcurrentCounters":  testCounters,
		"ConcurrentWatchers":  testWatchers,
		"ConcurrentTransfers": testTransfers,
		"Context":             testContext,
		"Closed":              testClosed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

// open opens storage with settings under which nothing happens by itself soon.
func open(t *testing.T, o Opener) store.Store {
	t.Helper()
	return openWith(t, o, Options{SweepEvery: 10 * time.Millisecond, KeepTombstones: time.Hour})
}

func openWith(t *testing.T, o Opener, opts Options) store.Store {
	t.Helper()
	st := o(t, opts)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func put(t *testing.T, st store.Store, key, value string, conds ...store.Cond) int64 {
	t.Helper()
	rev, err := st.Txn(t.Context(), store.Txn{Conds: conds, Puts: []store.Put{{Key: key, Value: []byte(value)}}})
	if err != nil {
		t.Fatalf("put %s: %v", key, fault.Chain(err))
	}
	return rev
}

func remove(t *testing.T, st store.Store, key string) int64 {
	t.Helper()
	rev, err := st.Txn(t.Context(), store.Txn{Deletes: []string{key}})
	if err != nil {
		t.Fatalf("delete %s: %v", key, fault.Chain(err))
	}
	return rev
}

func list(t *testing.T, st store.Store, prefix string) ([]store.Entry, store.Cursor) {
	t.Helper()
	entries, cursor, err := st.List(t.Context(), prefix)
	if err != nil {
		t.Fatalf("list %q: %v", prefix, fault.Chain(err))
	}
	return entries, cursor
}

// keys returns the keys of entries, with a minus before deleted ones.
func keys(entries []store.Entry) []string {
	var keys []string
	for _, e := range entries {
		if e.Deleted {
			keys = append(keys, "-"+e.Key)
		} else {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("got %v, want a fault of kind %v", err, kind)
	}
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

// timeLimit is how long the suite waits for something that must happen.
const timeLimit = time.Minute

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeLimit)
	t.Cleanup(cancel)
	return ctx
}

// until polls a condition that becomes true by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for ctx := limited(t); !done(); {
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not happen within %v", what, timeLimit)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
