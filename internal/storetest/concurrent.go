package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/store"
)

const writers = 16

// view is what a watcher knows: it applies deltas.
type view map[string]string

func (v view) apply(d store.Delta) {
	if d.Full {
		clear(v)
	}
	for _, e := range d.Entries {
		if e.Deleted {
			delete(v, e.Key)
		} else {
			v[e.Key] = string(e.Value)
		}
	}
}

func testWatch(t *testing.T, o Opener) {
	st := open(t, o)
	put(t, st, "role/a", "1")
	seen := view{}
	step := 0
	for d, err := range st.Watch(limited(t), "role/", store.Cursor{}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Full != (step == 0) {
			t.Errorf("step %d: full is %v", step, d.Full)
		}
		seen.apply(d)
		switch step {
		case 0:
			same(t, "start", view{"role/a": "1"}, seen)
			put(t, st, "user/x", "1") // not watched
			put(t, st, "role/b", "1")
		case 1:
			same(t, "put", view{"role/a": "1", "role/b": "1"}, seen)
			remove(t, st, "role/a")
			put(t, st, "role/b", "2")
		case 2:
			same(t, "delete and put", view{"role/b": "2"}, seen)
			return
		}
		step++
	}
	t.Fatal("the watch ended")
}

func testWatchSeesExpiry(t *testing.T, o Opener) {
	st := open(t, o)
	_, err := st.Txn(t.Context(), store.Txn{Puts: []store.Put{{Key: "a", Expires: time.Now().Add(50 * time.Millisecond)}}})
	if err != nil {
		t.Fatal(err)
	}
	_, cursor := list(t, st, "")
	for d, err := range st.Watch(limited(t), "", cursor) {
		if err != nil {
			t.Fatal(err)
		}
		same(t, "expiry", []string{"-a"}, keys(d.Entries))
		return
	}
	t.Fatal("the watch ended")
}

func testWatchEnds(t *testing.T, o Opener) {
	st := open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for d, err := range st.Watch(ctx, "", store.Cursor{}) {
		if err != nil || !d.Full || len(d.Entries) != 0 {
			t.Errorf("an empty store shows %+v, %v", d, err)
		}
		cancel() // the loop ends, or this test hangs
	}
	var last error
	for _, err := range st.Watch(limited(t), "", store.Cursor{}) {
		if last = err; err == nil {
			go func() { _ = st.Close() }()
		}
	}
	wantKind(t, last, fault.Unavailable)
}

// testCounters has many writers count up by reading and writing back. A lost
// update would show in the sum; a condition that is checked too early, too.
func testCounters(t *testing.T, o Opener) {
	st := open(t, o)
	const each = 4
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := increment(t.Context(), st, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	e, err := st.Get(t.Context(), "counter")
	if err != nil || string(e.Value) != strconv.Itoa(writers*each) || e.Version != writers*each {
		t.Errorf("counted %s in %d versions, want %d (%v)", e.Value, e.Version, writers*each, err)
	}
}

func increment(ctx context.Context, st store.Store, key string) error {
	for {
		e, err := st.Get(ctx, key)
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return err
		}
		n, _ := strconv.Atoi(string(e.Value)) // 0 when there is none
		_, err = st.Txn(ctx, store.Txn{
			Conds: []store.Cond{{Key: key, Rev: e.Rev}},
			Puts:  []store.Put{{Key: key, Value: []byte(strconv.Itoa(n + 1))}},
		})
		if err == nil || fault.KindOf(err) != fault.Conflict {
			return err
		}
	}
}

// testWatchers has watchers follow many writers and compares what each came to
// know with what is there: level-triggered means that nothing is missed for
// ever.
func testWatchers(t *testing.T, o Opener) {
	st := open(t, o)
	const each, watchers = 8, 4
	ctx := limited(t)
	views := make([]view, watchers)
	var watching, writing sync.WaitGroup
	for i := range views {
		views[i] = view{}
		watching.Go(func() {
			for d, err := range st.Watch(ctx, "", store.Cursor{}) {
				if err != nil {
					t.Error(err)
					return
				}
				views[i].apply(d)
				if len(views[i]) > 0 && views[i]["end"] != "" {
					return
				}
			}
			t.Error("the watch ended before the end was seen")
		})
	}
	for w := range writers {
		writing.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for n := range each {
				key := fmt.Sprintf("k/%d", r.IntN(40))
				txn := store.Txn{Puts: []store.Put{{Key: key, Value: fmt.Append(nil, w, n)}}}
				if r.IntN(3) == 0 {
					txn = store.Txn{Deletes: []string{key}}
				}
				if _, err := st.Txn(ctx, txn); err != nil {
					t.Error(err)
				}
			}
			if _, err := st.Txn(ctx, store.Txn{Puts: []store.Put{{Key: fmt.Sprint("own/", w), Value: []byte("1")}}}); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	put(t, st, "end", "1")
	watching.Wait()
	entries, _ := list(t, st, "")
	want := view{}
	want.apply(store.Delta{Entries: entries})
	for i := range views {
		same(t, fmt.Sprint("watcher ", i), want, views[i])
	}
	for w := range writers {
		if want[fmt.Sprint("own/", w)] == "" {
			t.Errorf("the last write of writer %d is lost", w)
		}
	}
}

// testTransfers moves units between accounts in transactions over two keys, while
// readers check that every list shows the same total.
func testTransfers(t *testing.T, o Opener) {
	st := open(t, o)
	const accounts, total, each = 8, 800, 4
	for i := range accounts {
		put(t, st, fmt.Sprint("account/", i), strconv.Itoa(total/accounts))
	}
	ctx := limited(t)
	sum := func() int {
		entries, _, err := st.List(ctx, "account/")
		if err != nil {
			t.Error(err)
		}
		n := 0
		for _, e := range entries {
			v, _ := strconv.Atoi(string(e.Value))
			n += v
		}
		return n
	}
	var moving, reading sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if got := sum(); got != total {
					t.Errorf("a reader sees a total of %d, want %d", got, total)
					return
				}
			}
		})
	}
	for w := range writers {
		moving.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for range each {
				from := r.IntN(accounts)
				if err := transfer(ctx, st, from, (from+1)%accounts); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	moving.Wait()
	close(done)
	reading.Wait()
	if got := sum(); got != total {
		t.Errorf("total %d, want %d", got, total)
	}
}

func transfer(ctx context.Context, st store.Store, from, to int) error {
	for {
		values := map[string]int{fmt.Sprint("account/", from): -1, fmt.Sprint("account/", to): 1}
		var txn store.Txn
		for key := range maps.Clone(values) {
			e, err := st.Get(ctx, key)
			if err != nil {
				return err
			}
			n, _ := strconv.Atoi(string(e.Value))
			txn.Conds = append(txn.Conds, store.Cond{Key: key, Rev: e.Rev})
			txn.Puts = append(txn.Puts, store.Put{Key: key, Value: []byte(strconv.Itoa(n + values[key]))})
		}
		_, err := st.Txn(ctx, txn)
		if err == nil || fault.KindOf(err) != fault.Conflict {
			return err
		}
	}
}
