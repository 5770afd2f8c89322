package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

func logDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "audit")
}

func open(t testing.TB, cfg audit.Config) *audit.Log {
	t.Helper()
	cfg.Cluster = "example.com"
	l, err := audit.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(fault.Chain(err))
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

// lines returns all lines of the log, read without the package.
func lines(t testing.TB, dir string) [][]byte {
	t.Helper()
	var all []byte
	for _, f := range segmentFiles(t, dir) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if len(all) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(all, []byte("\n")), []byte("\n"))
}

func query(n int) audit.Event {
	return &audit.Statement{What: &audit.DatabaseQuery{Outcome: audit.OutcomeOf(nil), Query: fmt.Sprint("SELECT ", n)}}
}

func verify(t testing.TB, dir string, events int) audit.Report {
	t.Helper()
	rep, err := audit.Verify(t.Context(), dir)
	if err != nil {
		t.Fatalf("%v: %s", err, fault.Of(err).Detail)
	}
	if rep.Events != uint64(events) {
		t.Errorf("%d events, want %d", rep.Events, events)
	}
	return rep
}

func TestEmitIsOnDiskOnReturn(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir})
	for i := range 3 {
		if err := l.Emit(t.Context(), query(i)); err != nil {
			t.Fatal(err)
		}
		if got := len(lines(t, dir)); got != i+1 {
			t.Errorf("%d lines after %d events", got, i+1)
		}
	}
	verify(t, dir, 3)
}

func TestManyWritersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir, MaxSegment: 32 << 10})
	const writers, each = 16, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var durable func(context.Context) error
			for i := range each {
				ev := audit.ClientDisconnect{Session: audit.Session{ID: fmt.Sprint(w), Index: int64(i)}}
				var err error
				switch i % 10 {
				case 0:
					err = l.Emit(t.Context(), ev)
				case 5:
					durable, err = l.Submit(t.Context(), ev)
				case 2, 3, 4:
					err = l.Stream(t.Context(), ev)
				default:
					err = l.Post(t.Context(), ev)
				}
				if i%10 == 7 {
					err = errors.Join(err, durable(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if rep := verify(t, dir, writers*each); rep.Segments < 3 || rep.First != 1 || rep.Torn != 0 {
		t.Errorf("report %+v", rep)
	}
	next := map[string]int{}
	uids := map[string]bool{}
	for r, err := range audit.Read(t.Context(), dir, 0, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"ei":%d,`, next[r.Session]); !bytes.Contains(r.Raw, []byte(want)) {
			t.Fatalf("session %s: want %s in %s", r.Session, want, r.Raw)
		}
		next[r.Session]++
		uids[r.UID] = true
	}
	if len(uids) != writers*each {
		t.Errorf("%d unique ids", len(uids))
	}
}

func TestLogGoesOnAfterReopening(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	for i := range 4 {
		l := open(t, audit.Config{Dir: dir, MaxSegment: 700}) // every other line begins a segment
		if err := l.Emit(t.Context(), query(i)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if rep := verify(t, dir, 4); rep.Segments != 2 || len(rep.Damaged) != 0 {
		t.Errorf("report %+v", rep)
	}
}

func TestNewDayBeginsSegment(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	now := time.Date(2026, 11, 22, 23, 59, 59, 0, time.UTC)
	step := func(d time.Duration) {
		now = now.Add(d)
		l := open(t, audit.Config{Dir: dir, Now: func() time.Time { return now }})
		if err := l.Emit(t.Context(), query(0)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	step(0)
	step(time.Second)
	step(time.Hour)
	if got := len(segmentFiles(t, dir)); got != 2 {
		t.Errorf("%d segments, want 2", got)
	}
	verify(t, dir, 3)
}

func TestFilesAreClosedToOthers(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir})
	if err := l.Emit(t.Context(), query(1)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	wide := logDir(t)
	if err := os.Mkdir(wide, 0o755); err != nil {
		t.Fatal(err)
	}
	used := logDir(t)
	open(t, audit.Config{Dir: used})
	for name, c := range map[string]struct {
		cfg  audit.Config
		kind fault.Kind
	}{
		"no directory":   {audit.Config{Cluster: "c"}, fault.Invalid},
		"no cluster":     {audit.Config{Dir: logDir(t)}, fault.Invalid},
		"open to others": {audit.Config{Dir: wide, Cluster: "c"}, fault.Invalid},
		"in use":         {audit.Config{Dir: used, Cluster: "c"}, fault.Unavailable},
		"no such parent": {audit.Config{Dir: "/dev/null/audit", Cluster: "c"}, fault.Unavailable},
	} {
		if _, err := audit.Open(t.Context(), c.cfg); err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: got %v, want %v", name, err, c.kind)
		}
	}
}

func TestClosedLogRefuses(t *testing.T) {
	t.Parallel()
	l := open(t, audit.Config{Dir: logDir(t)})
	if err := l.Err(); err != nil {
		t.Errorf("a new log has failed: %v", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for name, err := range map[string]error{"Emit": l.Emit(t.Context(), query(1)), "Post": l.Post(t.Context(), query(1)), "Err": l.Err()} {
		if fault.KindOf(err) != fault.Unavailable || err == nil {
			t.Errorf("%s: got %v, want Unavailable", name, err)
		}
	}
}

func TestEmitForNobodyWritesNothing(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Emit(ctx, query(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, dir, 0)
}

// What streamed before it is on disk with an event that is, in its place.
func TestEmitTakesStreamedEventsAlong(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	l := open(t, audit.Config{Dir: dir})
	for i := range 10 {
		for range i {
			if err := l.Stream(t.Context(), query(0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Emit(t.Context(), query(i+1)); err != nil {
			t.Fatal(err)
		}
		all := lines(t, dir)
		if want := (i + 1) * (i + 2) / 2; len(all) != want || !bytes.Contains(all[len(all)-1], fmt.Append(nil, "SELECT ", i+1)) {
			t.Errorf("%d lines, want %d; the last is %s", len(all), want, all[len(all)-1])
		}
	}
}

// Stream promises that what it took is written by itself, soon, also in the pause
// after another event.
func TestStreamedEventsAppear(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	appear(t, dir, open(t, audit.Config{Dir: dir}).Stream)
}

// Post promises that what it took is written by itself, soon.
func TestPostedEventsAppear(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	appear(t, dir, open(t, audit.Config{Dir: dir}).Post)
}

// appear gives some events to the log in dir, each when the one before is there to be read.
func appear(t *testing.T, dir string, give func(context.Context, audit.Event) error) {
	t.Helper()
	n := 1
	if err := give(t.Context(), query(n)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for r, err := range audit.Follow(ctx, dir, 0, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(r.Raw), fmt.Sprint("SELECT ", n)) {
			t.Errorf("got %s", r.Raw)
		}
		if n++; n > 5 {
			return
		}
		if err := give(t.Context(), query(n)); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%d events have not appeared", 6-n)
}

func BenchmarkPost(b *testing.B) {
	l := open(b, audit.Config{Dir: logDir(b)})
	ev := everyEvent()[3]
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Post(b.Context(), ev); err != nil {
				b.Error(err)
			}
		}
	})
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkEmit(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", parallel), func(b *testing.B) {
			l := open(b, audit.Config{Dir: logDir(b)})
			ev := everyEvent()[0]
			b.SetParallelism(parallel / 2)
			if parallel == 1 {
				for b.Loop() {
					if err := l.Emit(b.Context(), ev); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := l.Emit(b.Context(), ev); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := logDir(b)
	l := open(b, audit.Config{Dir: dir})
	const events = 50_000
	ev := everyEvent()[3]
	for range events {
		if err := l.Post(b.Context(), ev); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := audit.Verify(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
}
