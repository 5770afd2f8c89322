package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

// written makes a log of n events and returns its directory.
func written(t testing.TB, n int, maxSegment int64) string {
	t.Helper()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir, MaxSegment: maxSegment})
	for i := range n {
		if err := l.Emit(t.Context(), query(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyDir copies a log.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := logDir(t)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
	return to
}

// goOn opens the log, writes one event and closes it.
func goOn(t testing.TB, dir string) {
	t.Helper()
	l := open(t, audit.Config{Dir: dir})
	if err := l.Emit(t.Context(), query(1000)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A crash may cut the log anywhere. Wherever it does, every complete line stays,
// what is left of the torn one is kept aside and reported, and the chain goes on.
func TestCutAtEveryByte(t *testing.T) {
	t.Parallel()
	dir := written(t, 2, 0)
	segment := filepath.Base(segmentFiles(t, dir)[0])
	whole, err := os.ReadFile(filepath.Join(dir, segment))
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	first := bytes.IndexByte(whole, '\n')
	for size := first - 20; size <= len(whole); size++ { // around and in the last line
		dir := filepath.Join(base, fmt.Sprint(size))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cut := whole[:size]
		if err := os.WriteFile(filepath.Join(dir, segment), cut, 0o600); err != nil {
			t.Fatal(err)
		}
		complete := bytes.Count(cut, []byte("\n"))
		torn := cut[bytes.LastIndexByte(cut, '\n')+1:]
		if rep, err := audit.Verify(t.Context(), dir); err != nil || rep.Events != uint64(complete) || rep.Torn != int64(len(torn)) {
			t.Fatalf("cut at %d, before the repair: %+v, %v", size, rep, err)
		}
		goOn(t, dir)
		want := complete + 1
		if len(torn) > 0 {
			want++ // the report
		}
		rep := verify(t, dir, want)
		got := lines(t, dir)
		if !bytes.Equal(bytes.Join(got[:complete], []byte("\n")), bytes.TrimSuffix(whole[:size-len(torn)], []byte("\n"))) {
			t.Fatalf("cut at %d: complete lines changed", size)
		}
		if len(torn) == 0 {
			if len(rep.Damaged) != 0 {
				t.Fatalf("cut at %d: nothing was torn, and %v was made", size, rep.Damaged)
			}
			continue
		}
		checkReport(t, dir, got[complete], rep, torn)
	}
}

// checkReport checks that line tells of a repair which kept removed aside.
func checkReport(t *testing.T, dir string, line []byte, rep audit.Report, removed []byte) {
	t.Helper()
	var r struct {
		Event, Code, File string
		Removed           int
	}
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatal(err)
	}
	if r.Event != "audit.repaired" || r.Code != "TPA00W" || r.Removed != len(removed) {
		t.Fatalf("the report of the repair is %s", line)
	}
	if len(rep.Damaged) != 1 || rep.Damaged[0] != r.File {
		t.Fatalf("the report names %s, there is %v", r.File, rep.Damaged)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, r.File)); err != nil || !bytes.Equal(kept, removed) {
		t.Fatalf("kept aside: %q, %v; want %q", kept, err, removed)
	}
}

// After a power cut, pages of the last writes may be missing in the middle.
func TestDamagedEndIsMovedAside(t *testing.T) {
	t.Parallel()
	source := written(t, 6, 0)
	for name, damage := range map[string]func([]byte) []byte{
		"zeros": func(b []byte) []byte { clear(b); return b },
		"zeros in the middle": func(b []byte) []byte {
			clear(b[100:200])
			return b
		},
		"zeros appended": func(b []byte) []byte { return append(b, make([]byte, 5000)...) },
		"one bit":        func(b []byte) []byte { b[20] ^= 1; return b },
		"endless line":   func([]byte) []byte { return bytes.Repeat([]byte("x"), 9<<20) },
		"line missing":   func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, source)
			path := segmentFiles(t, dir)[0]
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			good := whole[:bytes.IndexByte(whole, '\n')+1]
			rest := damage(bytes.Clone(whole[len(good):]))
			if err := os.WriteFile(path, append(bytes.Clone(good), rest...), 0o600); err != nil {
				t.Fatal(err)
			}
			goOn(t, dir)
			all := lines(t, dir)
			at := bytes.Count(good, []byte("\n"))
			if name == "zeros appended" {
				at, rest = 6, rest[len(rest)-5000:]
			}
			checkReport(t, dir, all[at], verify(t, dir, at+2), rest)
		})
	}
}

func TestSegmentsWithoutLinesAreSkipped(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "torn": `{"event":`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := written(t, 2, 0)
			for _, seq := range []int{3, 4} { // 4 cannot be, but must not stop us
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("events-%020d.jsonl", seq)), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			goOn(t, dir)
			want := 3
			if content != "" {
				want += 2
			}
			if rep := verify(t, dir, want); rep.Segments != 1 || len(rep.Damaged) != want-3 {
				t.Errorf("report %+v", rep)
			}
		})
	}
}

func TestVerifyFindsTampering(t *testing.T) {
	t.Parallel()
	source := written(t, 8, 1000) // several segments
	if n := len(segmentFiles(t, source)); n < 3 {
		t.Fatalf("%d segments", n)
	}
	edit := func(segment int, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := segmentFiles(t, dir)[segment]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cutLine := func(n int) func([]byte) []byte {
		return func(b []byte) []byte {
			all := bytes.SplitAfter(b, []byte("\n"))
			return bytes.Join(append(all[:n:n], all[n+1:]...), nil)
		}
	}
	for name, tamper := range map[string]func(*testing.T, string){
		"text changed":        edit(0, func(b []byte) []byte { return bytes.Replace(b, []byte("SELECT"), []byte("DELETE"), 1) }),
		"space added":         edit(0, func(b []byte) []byte { return bytes.Replace(b, []byte(`","code"`), []byte(`", "code"`), 1) }),
		"first line gone":     edit(0, cutLine(0)),
		"line gone":           edit(0, cutLine(1)),
		"line doubled":        edit(1, func(b []byte) []byte { return append(b[:bytes.IndexByte(b, '\n')+1:bytes.IndexByte(b, '\n')+1], b...) }),
		"torn in the middle":  edit(0, func(b []byte) []byte { return b[:len(b)-10] }),
		"end of segment gone": edit(0, func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] }),
		"empty line":          edit(1, func(b []byte) []byte { return append([]byte("\n"), b...) }),
		"capital hash":        edit(2, func(b []byte) []byte { return append(b[:len(b)-67], bytes.ToUpper(b[len(b)-67:])...) }),
		"segment gone":        func(t *testing.T, dir string) { removeFile(t, segmentFiles(t, dir)[1]) },
		"segment renamed": func(t *testing.T, dir string) {
			files := segmentFiles(t, dir)
			if err := os.Rename(files[len(files)-1], filepath.Join(dir, fmt.Sprintf("events-%020d.jsonl", 100))); err != nil {
				t.Fatal(err)
			}
		},
		"segment from another log": func(t *testing.T, dir string) {
			other := written(t, 8, 1000)
			data, err := os.ReadFile(segmentFiles(t, other)[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(segmentFiles(t, dir)[1], data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, source)
			tamper(t, dir)
			rep, err := audit.Verify(t.Context(), dir)
			if err == nil || fault.KindOf(err) != fault.Invalid {
				t.Fatalf("got %+v, %v; want Invalid", rep, err)
			}
			if !strings.Contains(fault.Of(err).Detail, "events-") {
				t.Errorf("the place is missing in %q", fault.Of(err).Detail)
			}
		})
	}
	t.Run("untouched", func(t *testing.T) {
		t.Parallel()
		rep := verify(t, copyDir(t, source), 8)
		if rep.First != 1 || rep.Last != 8 || len(rep.Head) != 64 {
			t.Errorf("report %+v", rep)
		}
	})
	t.Run("old segments removed", func(t *testing.T) {
		t.Parallel()
		dir := copyDir(t, source)
		removeFile(t, segmentFiles(t, dir)[0])
		rep, err := audit.Verify(t.Context(), dir)
		if err != nil || rep.First == 1 || rep.Last != 8 || rep.Events != rep.Last-rep.First+1 {
			t.Errorf("report %+v, %v", rep, err)
		}
	})
}

func removeFile(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyWithoutLog(t *testing.T) {
	t.Parallel()
	if _, err := audit.Verify(t.Context(), logDir(t)); err == nil || fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v, want NotFound", err)
	}
	if rep, err := audit.Verify(t.Context(), t.TempDir()); err != nil || rep.Events != 0 || rep.Last != 0 {
		t.Errorf("an empty directory: %+v, %v", rep, err)
	}
}
