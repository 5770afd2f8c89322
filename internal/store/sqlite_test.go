package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/store"
	"github.com/postern-db/postern/internal/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := statePath(t)
		return func(t *testing.T, o storetest.Options) store.Store {
			return open(t, store.Config{Path: path, SweepEvery: o.SweepEvery, KeepTombstones: o.KeepTombstones})
		}
	})
}

// statePath is in a directory that does not exist yet, with letters that mean
// something in URIs.
func statePath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "my state?%20#&;é", "state.db")
}

func open(t testing.TB, cfg store.Config) *store.SQLite {
	t.Helper()
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(fault.Chain(err))
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func TestFilesAreClosedToOthers(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	st := open(t, store.Config{Path: path})
	if _, err := st.Txn(t.Context(), store.Txn{Puts: []store.Put{{Key: "a"}}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if got, want := strings.Join(names, " "), "state.db state.db-shm state.db-wal state.db.lock"; got != want {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestOpenRefusesWideModes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		mode os.FileMode
	}{
		"directory that others may enter": {".", 0o710},
		"database that the group reads":   {"state.db", 0o640},
		"database that all read":          {"state.db", 0o604},
		"wal that all read":               {"state.db-wal", 0o604},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := statePath(t)
			if err := open(t, store.Config{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(filepath.Dir(path), c.file)
			if c.file == "state.db-wal" {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(t.Context(), store.Config{Path: path})
			if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Of(err).Hint, "chmod") {
				t.Errorf("got %v, want Invalid and a hint", err)
			}
		})
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"newer schema":     `PRAGMA user_version = 2`,
		"other program's":  `PRAGMA application_id = 7`,
		"no application":   `PRAGMA application_id = 0`,
		"version unset":    `PRAGMA user_version = 0`,
		"someone's tables": `PRAGMA application_id = 0; PRAGMA user_version = 0`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state", "state.db")
			if err := open(t, store.Config{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			_, err = store.Open(t.Context(), store.Config{Path: path})
			if fault.KindOf(err) != fault.Invalid || err == nil {
				t.Errorf("got %v, want Invalid", err)
			}
		})
	}
	t.Run("not a database", func(t *testing.T) {
		t.Parallel()
		path := statePath(t)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), store.Config{Path: path}); err == nil {
			t.Error("opened")
		}
	})
	if _, err := store.Open(t.Context(), store.Config{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no path: %v", err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	st := open(t, store.Config{Path: path})
	_, err := store.Open(t.Context(), store.Config{Path: path})
	if err == nil || fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v, want Unavailable", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, store.Config{Path: path})
}

// An operator copies the state of a running hub with SQLite's own tools.
func TestBackupOfOpenStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "state.db")
	st := open(t, store.Config{Path: path})
	put(t, st, "a")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	backup := filepath.Join(filepath.Dir(path), "backup.db")
	if _, err := db.ExecContext(t.Context(), `VACUUM INTO ?`, backup); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(backup, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, store.Config{Path: backup}).Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// A restored backup has revisions that the lost future had, too. Cursors of
// before the restart must not be taken for cursors of now.
func TestEachOpenIsAnEpoch(t *testing.T) {
	t.Parallel()
	path := statePath(t)
	st := open(t, store.Config{Path: path})
	put(t, st, "a")
	_, before, err := st.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := open(t, store.Config{Path: path}).Changes(t.Context(), "", before)
	if err != nil || !d.Full {
		t.Errorf("got %+v, %v; want a full delta", d, err)
	}
}

func put(t testing.TB, st store.Store, key string) {
	t.Helper()
	if _, err := st.Txn(t.Context(), store.Txn{Puts: []store.Put{{Key: key, Value: make([]byte, 1024)}}}); err != nil {
		t.Fatal(fault.Chain(err))
	}
}

func BenchmarkTxn(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprint("writers=", parallel), func(b *testing.B) {
			st := open(b, store.Config{Path: statePath(b)})
			var n atomic.Int64
			b.SetParallelism(max(1, parallel/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			if parallel == 1 {
				for b.Loop() {
					put(b, st, "key")
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put(b, st, fmt.Sprint("key/", n.Add(1)%1000))
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	st := open(b, store.Config{Path: statePath(b)})
	put(b, st, "key")
	for b.Loop() {
		if _, err := st.Get(b.Context(), "key"); err != nil {
			b.Fatal(err)
		}
	}
}
