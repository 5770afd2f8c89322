package storetest

import (
	"testing"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/store"
)

func testChanges(t *testing.T, o Opener) {
	st := open(t, o)
	put(t, st, "role/a", "1")
	put(t, st, "role/b", "1")
	put(t, st, "user/x", "1")

	d, err := st.Changes(t.Context(), "role/", store.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Full {
		t.Error("from the beginning, the delta is not full")
	}
	same(t, "from the beginning", []string{"role/a", "role/b"}, keys(d.Entries))
	start := d.Cursor
	if d, err = st.Changes(t.Context(), "role/", start); err != nil || d.Full || len(d.Entries) != 0 || d.Cursor != start {
		t.Errorf("nothing changed, and yet: %+v, %v", d, err)
	}

	remove(t, st, "role/b")
	put(t, st, "role/c", "1")
	put(t, st, "role/c", "2")
	remove(t, st, "user/x")
	put(t, st, "role/d", "1")
	remove(t, st, "role/d")
	if d, err = st.Changes(t.Context(), "role/", start); err != nil {
		t.Fatal(err)
	}
	if d.Full {
		t.Error("the delta is full")
	}
	same(t, "changes", []string{"-role/b", "role/c", "-role/d"}, keys(d.Entries))
	if string(d.Entries[1].Value) != "2" || d.Entries[0].Value != nil {
		t.Errorf("values %q and %q", d.Entries[1].Value, d.Entries[0].Value)
	}

	for name, c := range map[string]store.Cursor{
		"other epoch": {Epoch: "another", Rev: start.Rev},
		"the future":  {Epoch: start.Epoch, Rev: d.Cursor.Rev + 1000},
	} {
		d, err := st.Changes(t.Context(), "role/", c)
		if err != nil || !d.Full {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		same(t, name, []string{"role/a", "role/c"}, keys(d.Entries))
	}
}

func testExpiry(t *testing.T, o Opener) {
	// Reading must not depend on the sweeper.
	st := openWith(t, o, Options{SweepEvery: time.Hour, KeepTombstones: time.Hour})
	soon := time.Now().Add(150 * time.Millisecond).Truncate(time.Millisecond).UTC()
	rev, err := st.Txn(t.Context(), store.Txn{Puts: []store.Put{
		{Key: "short", Value: []byte("1"), Expires: soon},
		{Key: "long", Value: []byte("1"), Expires: soon.Add(time.Hour)},
		{Key: "ever", Value: []byte("1")},
		{Key: "past", Value: []byte("1"), Expires: soon.Add(-time.Hour)},
		{Key: "before 1970", Value: []byte("1"), Expires: time.Unix(-1, 0)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := st.Get(t.Context(), "long"); err != nil || !e.Expires.Equal(soon.Add(time.Hour)) {
		t.Errorf("got %+v, %v; want it to expire an hour after %v", e, err, soon)
	}
	// On a slow machine it has expired before it is read.
	if e, err := st.Get(t.Context(), "short"); time.Now().Before(soon) && (err != nil || !e.Expires.Equal(soon)) {
		t.Errorf("got %+v, %v; want it to expire at %v", e, err, soon)
	}
	until(t, "expiry", func() bool {
		_, err := st.Get(t.Context(), "short")
		return err != nil && fault.KindOf(err) == fault.NotFound
	})
	entries, _ := list(t, st, "")
	same(t, "left", []string{"ever", "long"}, keys(entries))
	_, err = st.Txn(t.Context(), store.Txn{Conds: []store.Cond{{Key: "short", Rev: rev}}})
	wantKind(t, err, fault.Conflict)
	put(t, st, "short", "2", store.Cond{Key: "short"})
	e, err := st.Get(t.Context(), "short")
	if err != nil || e.Version != 1 || !e.Expires.IsZero() {
		t.Errorf("made anew: %+v, %v", e, err)
	}
	// Writing without a time makes an entry stay.
	put(t, st, "long", "2")
	if e, err := st.Get(t.Context(), "long"); err != nil || !e.Expires.IsZero() || e.Version != 2 {
		t.Errorf("written again: %+v, %v", e, err)
	}
}

func testHorizon(t *testing.T, o Opener) {
	st := openWith(t, o, Options{SweepEvery: 5 * time.Millisecond, KeepTombstones: time.Millisecond})
	put(t, st, "a", "1")
	put(t, st, "b", "1")
	_, old := list(t, st, "")
	rev := remove(t, st, "a")
	until(t, "forgetting a deletion", func() bool {
		d, err := st.Changes(t.Context(), "", old)
		return err == nil && d.Full
	})
	d, err := st.Changes(t.Context(), "", old)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "relisted", []string{"b"}, keys(d.Entries))
	// Who saw the deletion goes on as before.
	put(t, st, "c", "1")
	d, err = st.Changes(t.Context(), "", store.Cursor{Epoch: old.Epoch, Rev: rev})
	if err != nil || d.Full {
		t.Errorf("got %+v, %v", d, err)
	}
	same(t, "changes", []string{"c"}, keys(d.Entries))
}

func testRestart(t *testing.T, o Opener) {
	st := open(t, o)
	put(t, st, "kept", "1")
	put(t, st, "deleted", "1")
	rev := remove(t, st, "deleted")
	before, cursor := list(t, st, "")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = open(t, o)
	after, _ := list(t, st, "")
	same(t, "after a restart", before, after)
	if next := put(t, st, "new", "1"); next <= rev {
		t.Errorf("revision %d after a restart, %d before", next, rev)
	}
	// A watcher that was away during the restart misses nothing, in one way or
	// the other.
	d, err := st.Changes(t.Context(), "", cursor)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"new"}
	if d.Full {
		want = []string{"kept", "new"}
	}
	same(t, "changes over a restart", want, keys(d.Entries))
}
