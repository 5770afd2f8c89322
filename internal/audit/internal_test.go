package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// A disk that fails cannot be had in a test; a file that was closed behind the
// writer's back fails in the same way.
func TestFailedWriteEndsTheLog(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := Open(t.Context(), Config{Dir: dir, Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Emit(t.Context(), Login{Method: "before"}); err != nil {
		t.Fatal(err)
	}
	if err := l.writer.tail.file.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 { // some of them wait in the batch after the one that fails
		wg.Go(func() {
			if err := l.Emit(t.Context(), Login{Method: "lost"}); err == nil || fault.KindOf(err) != fault.Unavailable {
				t.Errorf("Emit: got %v, want Unavailable", err)
			}
		})
	}
	wg.Wait()
	if err := l.Post(t.Context(), Login{}); err == nil || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Post: got %v, want Unavailable", err)
	}
	if l.Err() == nil {
		t.Error("Err says that all is well")
	}
	if err := l.Close(); err == nil || !errors.Is(err, os.ErrClosed) {
		t.Errorf("Close hides why: %v", err)
	}
	l, err = Open(t.Context(), Config{Dir: dir, Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Emit(t.Context(), Login{Method: "after"}); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if rep, err := Verify(t.Context(), dir); err != nil || rep.Events != 2 {
		t.Errorf("report %+v, %v", rep, err)
	}
}

func TestCloseReportsThatTheLastEventsAreLost(t *testing.T) {
	t.Parallel()
	l, err := Open(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "audit"), Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Emit(t.Context(), Login{}); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock() // the writer cannot take the event before Close does
	l.next.add([]byte(`{"event":"x"`), 2)
	l.mu.Unlock()
	if err := l.writer.tail.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err == nil || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}

// The queue is tested without a writer, so that it stays full.
func TestFullQueueBlocks(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*batch){
		"bytes":  func(b *batch) { b.lines, b.ends = make([]byte, maxQueuedBytes), []int{maxQueuedBytes} },
		"events": func(b *batch) { b.ends = make([]int, maxQueuedEvents) },
	} {
		l := &Log{next: newBatch(nil), late: time.NewTimer(time.Hour)}
		fill(l.next)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.lockForRoom(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: got %v, want to be kept waiting", name, err)
		}
		room := make(chan error, 1)
		go func() {
			_, err := l.lockForRoom(t.Context(), 1)
			l.mu.Unlock()
			room <- err
		}()
		l.take()
		if err := <-room; err != nil {
			t.Errorf("%s: after the queue was taken: %v", name, err)
		}
	}
	l := &Log{next: newBatch(nil), late: time.NewTimer(time.Hour)}
	if _, err := l.lockForRoom(t.Context(), maxQueuedBytes+1); err != nil {
		t.Errorf("an event larger than the empty queue: %v", err)
	}
	l.mu.Unlock()
}

// appendLine appends object as the line after l.
func appendLine(b []byte, l link, object string) ([]byte, link) {
	at := len(b)
	b = appendUnsealed(append(b, strings.TrimSuffix(object, "}")...), l.seq+1)
	return b, l.seal(b[at:])
}

func TestParseLine(t *testing.T) {
	t.Parallel()
	line, want := appendLine(nil, link{seq: 41, hash: [32]byte{1}}, `{"event":"x"}`)
	line = bytes.TrimSuffix(line, []byte("\n"))
	got, prev, err := parseLine(line)
	if err != nil || got != want || prev != [32]byte{1} {
		t.Errorf("got %v, %v, %v", got, prev, err)
	}
	// No byte can be changed, added or taken away.
	for i := range line {
		changed := bytes.Clone(line)
		changed[i] ^= 1
		if _, _, err := parseLine(changed); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
		if _, _, err := parseLine(append(line[:i:i], line[i+1:]...)); err == nil {
			t.Errorf("byte %d removed: accepted", i)
		}
		if _, _, err := parseLine(append(append(line[:i:i], ' '), line[i:]...)); err == nil {
			t.Errorf("space before byte %d: accepted", i)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	line, _ := appendLine(nil, link{seq: 41}, `{"event":"x"}`)
	f.Add(line[:len(line)-1])
	f.Add([]byte(`{"event":"x","seq":`))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, prev, err := parseLine(line)
		if err != nil {
			return
		}
		at := bytes.LastIndex(line, []byte(seqField))
		again, _ := appendLine(nil, link{seq: l.seq - 1, hash: prev}, string(line[:at])+"}")
		if !bytes.Equal(again, append(line, '\n')) {
			t.Errorf("%q comes back as %q", line, again)
		}
	})
}

// FuzzReaders gives the readers a segment with any content.
func FuzzReaders(f *testing.F) {
	one, end := appendLine(nil, link{}, `{"event":"x","time":"2026-11-22T12:00:00.000Z"}`)
	two, _ := appendLine(one, end, `{"event":"y","time":"2026-11-22T12:00:00.000Z"}`)
	f.Add(two)
	f.Add(two[:len(two)-7])
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), content, 0o600); err != nil {
			t.Fatal(err)
		}
		before, verifyErr := Verify(t.Context(), dir)
		var read uint64
		var readErr error
		for _, err := range Read(t.Context(), dir, 0, Filter{}) {
			if readErr = err; err == nil {
				read++
			}
		}
		if verifyErr == nil && readErr == nil && read != before.Events {
			t.Errorf("read %d records of %d", read, before.Events)
		}
		_, _ = End(t.Context(), dir)
		l, err := Open(t.Context(), Config{Dir: dir, Cluster: "c"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Emit(t.Context(), Login{}), l.Close()); err != nil {
			t.Fatal(err)
		}
		after, err := Verify(t.Context(), dir)
		if err != nil {
			t.Fatalf("after the repair: %v", err)
		}
		if verifyErr == nil && after.Events < before.Events+1 {
			t.Errorf("%d events before, %d after", before.Events, after.Events)
		}
	})
}

func TestTimesAreWrittenAsInTimeFormat(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		{},
		time.Unix(0, 0), time.Date(2026, 11, 22, 9, 8, 7, 999_999_999, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 1_000_000, time.UTC),
		time.Date(2026, 1, 1, 0, 30, 0, 50_000_000, time.FixedZone("east", 3600)), time.Date(987, 3, 4, 5, 6, 7, 0, time.UTC),
	} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format(timeFormat); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{segmentName(7), segmentName(10), "events-8.jsonl", "events-x.jsonl", "lock", "damaged-x", segmentName(9) + ".gz", "events-" + strings.Repeat("9", 20) + ".jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := segments(dir)
	if err != nil || fmt.Sprint(got) != "[7 10]" {
		t.Errorf("segments = %v, %v", got, err)
	}
}
