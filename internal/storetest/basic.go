package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/store"
)

func testGetPutDelete(t *testing.T, o Opener) {
	st := open(t, o)
	_, err := st.Get(t.Context(), "role/dba")
	wantKind(t, err, fault.NotFound)

	first := put(t, st, "role/dba", "one")
	second := put(t, st, "role/dba", "two")
	if second <= first || first <= 0 {
		t.Errorf("revisions %d, %d do not grow", first, second)
	}
	e, err := st.Get(t.Context(), "role/dba")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "entry", store.Entry{Key: "role/dba", Value: []byte("two"), Rev: second, Version: 2}, e)

	put(t, st, "role/empty", "")
	if e, err := st.Get(t.Context(), "role/empty"); err != nil || len(e.Value) != 0 {
		t.Errorf("an empty value comes back as %q, %v", e.Value, err)
	}
	binary := strings.Repeat("\x00\xff\n", 1000)
	put(t, st, "role/binary", binary)
	if e, err := st.Get(t.Context(), "role/binary"); err != nil || string(e.Value) != binary {
		t.Errorf("a binary value comes back changed, %v", err)
	}

	third := remove(t, st, "role/dba")
	_, err = st.Get(t.Context(), "role/dba")
	wantKind(t, err, fault.NotFound)
	last := put(t, st, "role/other", "x")
	if again := remove(t, st, "role/dba"); again != last {
		t.Errorf("deleting nothing is revision %d, want the present one, %d", again, last)
	}
	fourth := put(t, st, "role/dba", "three")
	if third <= second || fourth <= third {
		t.Errorf("revisions %d, %d, %d do not grow", second, third, fourth)
	}
	if e, err := st.Get(t.Context(), "role/dba"); err != nil || e.Version != 1 {
		t.Errorf("made anew it has version %d, want 1 (%v)", e.Version, err)
	}
}

func testConditions(t *testing.T, o Opener) {
	st := open(t, o)
	txn := func(conds ...store.Cond) error {
		_, err := st.Txn(t.Context(), store.Txn{Conds: conds, Puts: []store.Put{{Key: "b", Value: []byte("x")}}})
		return err
	}
	absent := store.Cond{Key: "a"}
	if err := txn(absent); err != nil {
		t.Errorf("the key does not exist, and the condition fails: %v", err)
	}
	wantKind(t, txn(store.Cond{Key: "a", Rev: 1}), fault.Conflict)
	rev := put(t, st, "a", "1", absent)
	present := store.Cond{Key: "a", Rev: rev}
	wantKind(t, txn(absent), fault.Conflict)
	wantKind(t, txn(store.Cond{Key: "a", Rev: rev + 1}), fault.Conflict)
	wantKind(t, txn(present, absent), fault.Conflict)
	if err := txn(present); err != nil {
		t.Errorf("the revision is right, and the condition fails: %v", err)
	}
	// A condition holds for one incarnation of a key only.
	remove(t, st, "a")
	wantKind(t, txn(present), fault.Conflict)
	if err := txn(absent); err != nil {
		t.Errorf("the key was deleted, and the condition fails: %v", err)
	}
	put(t, st, "a", "1")
	wantKind(t, txn(present), fault.Conflict)
	// Conditions alone are a question.
	if _, err := st.Txn(t.Context(), store.Txn{Conds: []store.Cond{{Key: "nothing"}}}); err != nil {
		t.Error(err)
	}
}

func testAllOrNothing(t *testing.T, o Opener) {
	st := open(t, o)
	put(t, st, "old", "1")
	_, before := list(t, st, "")
	change := store.Txn{
		Puts:    []store.Put{{Key: "new", Value: []byte("1")}, {Key: "newer", Value: []byte("1")}},
		Deletes: []string{"old"},
	}
	refused := change
	refused.Conds = []store.Cond{{Key: "old"}}
	_, err := st.Txn(t.Context(), refused)
	wantKind(t, err, fault.Conflict)
	entries, after := list(t, st, "")
	same(t, "after a refused transaction", []string{"old"}, keys(entries))
	same(t, "cursor after a refused transaction", before, after)

	rev, err := st.Txn(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	d, err := st.Changes(t.Context(), "", before)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "changes", []string{"new", "newer", "-old"}, keys(d.Entries))
	for _, e := range d.Entries {
		if e.Rev != rev {
			t.Errorf("%s has revision %d, its transaction %d", e.Key, e.Rev, rev)
		}
	}
}

func testList(t *testing.T, o Opener) {
	st := open(t, o)
	entries, cursor := list(t, st, "")
	if len(entries) != 0 || cursor == (store.Cursor{}) {
		t.Errorf("an empty store lists %v at %v", entries, cursor)
	}
	for _, k := range []string{"user/bob", "role/b", "role/a", "user/alice", "role/c"} {
		put(t, st, k, "v")
	}
	remove(t, st, "role/c")
	entries, _ = list(t, st, "role/")
	same(t, "roles", []string{"role/a", "role/b"}, keys(entries))
	entries, _ = list(t, st, "")
	same(t, "all", []string{"role/a", "role/b", "user/alice", "user/bob"}, keys(entries))
	entries, _ = list(t, st, "nothing/")
	same(t, "nothing", []string(nil), keys(entries))
}

func testPrefixes(t *testing.T, o Opener) {
	st := open(t, o)
	all := []string{"a", "a%", "a/", "a_b", "aab", "ab", "A", "aé", "a日本", "a\U0010fffe", "b", "a*", "a~"}
	for _, k := range all {
		put(t, st, k, "v")
	}
	for _, prefix := range append(all, "a\U0010fffe", "é", "") {
		var want []string
		for _, k := range all {
			if strings.HasPrefix(k, prefix) {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		entries, _ := list(t, st, prefix)
		same(t, "prefix "+prefix, want, keys(entries))
	}
}

func testInvalid(t *testing.T, o Opener) {
	st := open(t, o)
	p := func(key string) store.Put { return store.Put{Key: key, Value: []byte("v")} }
	for name, txn := range map[string]store.Txn{
		"empty key":       {Puts: []store.Put{p("")}},
		"long key":        {Puts: []store.Put{p(strings.Repeat("k", store.MaxKey+1))}},
		"nul":             {Puts: []store.Put{p("a\x00b")}},
		"newline":         {Deletes: []string{"a\nb"}},
		"not UTF-8":       {Conds: []store.Cond{{Key: "a\xff"}}},
		"last code point": {Puts: []store.Put{p("a\U0010ffff")}},
		"large value":     {Puts: []store.Put{{Key: "a", Value: make([]byte, store.MaxValue+1)}}},
		"put twice":       {Puts: []store.Put{p("a"), p("a")}},
		"put and delete":  {Puts: []store.Put{p("a")}, Deletes: []string{"a"}},
		"delete twice":    {Deletes: []string{"a", "a"}},
		"too much":        {Conds: make([]store.Cond, store.MaxChanges+1)},
		"negative":        {Conds: []store.Cond{{Key: "a", Rev: -1}}},
	} {
		if _, err := st.Txn(t.Context(), txn); err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
	_, err := st.Get(t.Context(), "")
	wantKind(t, err, fault.Invalid)
	_, _, err = st.List(t.Context(), "a\x00")
	wantKind(t, err, fault.Invalid)
	for _, err := range st.Watch(t.Context(), "a\xff", store.Cursor{}) {
		wantKind(t, err, fault.Invalid)
	}
	put(t, st, strings.Repeat("k", store.MaxKey), strings.Repeat("v", store.MaxValue))
	entries, _ := list(t, st, "")
	if len(entries) != 1 {
		t.Errorf("the store holds %v", keys(entries))
	}
}

func testContext(t *testing.T, o Opener) {
	st := open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := st.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, err := st.Txn(ctx, store.Txn{Puts: []store.Put{{Key: "a"}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Txn: %v", err)
	}
	if _, err := st.Changes(ctx, "", store.Cursor{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Changes: %v", err)
	}
	for d, err := range st.Watch(ctx, "", store.Cursor{}) {
		t.Errorf("Watch: %v, %v", d, err)
	}
}

func testClosed(t *testing.T, o Opener) {
	st := open(t, o)
	put(t, st, "a", "1")
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	_, err := st.Get(t.Context(), "a")
	wantKind(t, err, fault.Unavailable)
	_, err = st.Txn(t.Context(), store.Txn{Puts: []store.Put{{Key: "a"}}})
	wantKind(t, err, fault.Unavailable)
	_, _, err = st.List(t.Context(), "")
	wantKind(t, err, fault.Unavailable)
}
