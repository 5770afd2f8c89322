package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// openLog opens an audit log that ends with the test.
func openLog(t *testing.T) (log *audit.Log, dir string) {
	t.Helper()
	dir = t.TempDir() + "/audit"
	log, err := audit.Open(t.Context(), audit.Config{Dir: dir, Cluster: "main.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log, dir
}

// eventsOf returns the next n events of a log, in their order.
func eventsOf(t *testing.T, dir string, n int) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for r, err := range audit.Follow(ctx, dir, 0, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if names = append(names, strings.TrimPrefix(r.Event, "db.session.")); len(names) == n {
			break
		}
	}
	return names
}

// TestRecorderNeedsNobody: what a session keeps is on record while it waits, and also of
// those that keep something meanwhile.
func TestRecorderNeedsNobody(t *testing.T) {
	t.Parallel()
	log, dir := openLog(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	agent := &Server{cfg: Config{Audit: log}, recorder: newRecorder(log)}
	go func() { agent.recorder.run(ctx); close(ended) }()
	const sessions = 20
	for range sessions {
		s := benchSession(log, resource.RecordFull)
		s.agent = agent
		observe, err := s.observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range simpleExchange() {
			if err := observe.Frame(&f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := eventsOf(t, dir, 2*sessions); len(got) != 2*sessions {
		t.Errorf("%d events: %v", len(got), got)
	}
	stop()
	<-ended
}

// TestRecorderDoesNotRestWhenMuchWaits: what a session that sends a lot keeps is on record
// before the pause is over, and it did not have to do the work.
func TestRecorderDoesNotRestWhenMuchWaits(t *testing.T) {
	t.Parallel()
	log, dir := openLog(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	s := benchSession(log, resource.RecordFull)
	s.agent.recorder.pause = time.Hour
	go func() { s.agent.recorder.run(ctx); close(ended) }()
	observe, err := s.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	show := func(times int) {
		for range times {
			for _, f := range simpleExchange() {
				if err := observe.Frame(&f); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	show(1)
	if got := eventsOf(t, dir, 1); len(got) != 1 {
		t.Fatalf("%d events of the first", len(got))
	}
	// Of four frames and two events each: more than three quarters of what may wait, and
	// less than all. The last of them may wait again.
	show(220)
	if got := eventsOf(t, dir, 300); len(got) != 300 {
		t.Errorf("%d events", len(got))
	}
	stop()
	<-ended
}

// TestBugInTheRecordEndsTheSession, not the gateway, and leaves a trace of it.
func TestBugInTheRecordEndsTheSession(t *testing.T) {
	t.Parallel()
	log, dir := openLog(t)
	s := benchSession(log, resource.RecordFull)
	s.log = slog.New(slog.DiscardHandler)
	s.recording = t.Context()
	var told error
	s.stop = func(why error) { told = why }
	s.statements = pgwire.NewStatements(pgwire.StatementsConfig{
		Kept:    func(bool) {},
		Request: func(*pgwire.Request) (int64, error) { panic("a bug") },
	})
	frame := s.statements.Observe().Frame
	query := simpleExchange()[0]
	if err := frame(&query); err != nil {
		t.Fatal(err)
	}
	s.recordKept()
	var why *pgwire.Error
	if !errors.As(told, &why) || s.endReason() == nil {
		t.Errorf("the session goes on: %v", told)
	}
	if err := frame(&query); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("another statement was let through: %v", err)
	}
	if got := eventsOf(t, dir, 1); len(got) != 1 || got[0] != "malformed_packet" {
		t.Errorf("on record: %v", got)
	}
}
