package pgwire

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// heard is what a listener was told of a conversation.
type heard struct {
	Requests   []Request
	Statements []Statement
	Err        error
}

// play feeds a conversation to a tracker. Where after is positive, frames wait, and are
// looked at whenever so many have come.
func play(frames []Frame, after int) (h heard) {
	cfg := StatementsConfig{
		Values: true, MaxText: 64,
		Secret: func(sql string) bool { return strings.Contains(sql, "secret") },
		Request: func(q *Request) (int64, error) {
			h.Requests = append(h.Requests, keepRequest(q))
			return int64(len(h.Requests)), nil
		},
		Record: func(st *Statement) error { h.Statements = append(h.Statements, *st); return nil },
	}
	if after > 0 {
		cfg.Kept = func(bool) {}
	}
	s := NewStatements(cfg)
	show := s.Observe().Frame
	for i, f := range frames {
		f.Body = bytes.Clone(f.Body)
		if f.Type == 'd' {
			s.sizes[f.Direction].Add(int64(f.Length))
			continue
		}
		if h.Err = show(&f); h.Err != nil {
			break
		}
		clear(f.Body) // whose memory serves for something else
		if after > 0 && i%after == 0 {
			s.Look()
		}
	}
	s.Close()
	return h
}

// FuzzBacklog plays conversations to a tracker that looks at each frame before the next
// one comes, and to one that looks at them later: they are told the same.
func FuzzBacklog(f *testing.F) {
	f.Add([]byte("Q\x09select 1\x00Q\x09select 2\x00X\x00"), []byte("C\x09SELECT 1\x00Z\x01IC\x09SELECT 1\x00Z\x01I"), byte(2))
	f.Add([]byte("P\x0a\x00select\x00\x00\x00B\x08\x00\x00\x00\x00\x00\x00\x00\x00E\x05\x00\x00\x00\x00\x00S\x00"), []byte("1\x002\x00C\x09SELECT 1\x00Z\x01I"), byte(3))
	f.Add([]byte("Q\x05copy\x00d\x03abcc\x00Q\x05copy\x00d\x01xc\x00"), []byte("G\x00C\x07COPY 1\x00Z\x01IG\x00C\x07COPY 1\x00Z\x01I"), byte(0))
	f.Add([]byte("Q\x0fselect 'secret'B\x03\x00\x00\xff"), []byte("E\x08SERROR\x00\x00Z\x01I"), byte(7))
	f.Fuzz(func(t *testing.T, client, server []byte, after byte) {
		frames := framesOf(client, server)
		begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		for i := range frames {
			frames[i].At = begin.Add(time.Duration(i) * time.Millisecond)
		}
		at, later := play(frames, 0), play(frames, int(after)+1)
		if (at.Err == nil) != (later.Err == nil) {
			t.Fatalf("at once: %v; later: %v", at.Err, later.Err)
		}
		for _, h := range []*heard{&at, &later} {
			h.Err = nil
			for i := range h.Statements {
				if st := &h.Statements[i]; st.End.Year() > 2000 {
					st.End, st.Duration = time.Time{}, 0 // when the session was closed
				}
			}
		}
		if diff := cmp.Diff(at, later); diff != "" {
			t.Errorf("(-at once +later)\n%s", diff)
		}
	})
}

// keeping is a tracker whose frames wait, and what it told.
func keeping() (s *Statements, got *heard) {
	got = &heard{}
	return NewStatements(StatementsConfig{
		Kept: func(bool) {},
		Request: func(q *Request) (int64, error) {
			got.Requests = append(got.Requests, keepRequest(q))
			return 1, got.Err
		},
		Record: func(st *Statement) error { got.Statements = append(got.Statements, *st); return nil },
	}), got
}

// TestMalformedRequestIsNotLetThrough, and what came before it is on record.
func TestMalformedRequestIsNotLetThrough(t *testing.T) {
	t.Parallel()
	s, got := keeping()
	if err := s.keep(whole('Q', "SELECT 1\x00")); err != nil || len(got.Requests) != 0 {
		t.Fatalf("%v, %d requests looked at", err, len(got.Requests))
	}
	if err := s.keep(whole('Q', "no end")); err == nil {
		t.Error("a request that cannot be decoded was let through")
	}
	if len(got.Requests) != 1 {
		t.Errorf("%d requests on record", len(got.Requests))
	}
}

// TestWhatCannotWaitIsLookedAtFirst: nothing large is kept, nor more than there is room
// for, and the order stays.
func TestWhatCannotWaitIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	s, got := keeping()
	large := whole('Q', "large "+strings.Repeat("x", maxKeptBody)+"\x00")
	for _, f := range []*Frame{whole('Q', "before\x00"), large, whole('Q', "after\x00")} {
		if err := s.keep(f); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.Requests) != 2 || got.Requests[0].Text.Value != "before" || !strings.HasPrefix(got.Requests[1].Text.Value, "large") {
		t.Fatalf("looked at: %.100v", got.Requests)
	}
	s.Look()
	hashed := whole('Q', "hashed\x00")
	hashed.Digest = []byte("of more")
	if err := s.keep(hashed); err != nil || len(got.Requests) != 4 || string(got.Requests[3].Digest) != "of more" {
		t.Errorf("%v, %.100v", err, got.Requests)
	}
	for name, body := range map[string]string{"many": "", "much": strings.Repeat("y", maxKeptBody-1)} {
		s, got := keeping()
		n := 0
		for ; len(got.Requests) == 0 && n <= maxKept; n++ {
			if err := s.keep(whole('Q', body+"\x00")); err != nil {
				t.Fatal(err)
			}
			if r := s.backlog.room; r != nil && len(r.bodies) > maxKeptBytes {
				t.Fatalf("%s: %d bytes wait", name, len(r.bodies))
			}
		}
		if len(got.Requests) != n {
			t.Errorf("%s: %d of %d are on record", name, len(got.Requests), n)
		}
	}
}

// TestMuchThatWaitsIsTold: once, while there is room for more, and again after a look.
func TestMuchThatWaitsIsTold(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"many": "", "long": strings.Repeat("y", 1000)} {
		s, _ := keeping()
		var told []bool
		s.cfg.Kept = func(many bool) { told = append(told, many) }
		fill := func() (n int) {
			for before := len(told); len(told) < before+2 && n <= maxKept; n++ {
				if err := s.keep(whole('Q', body+"\x00")); err != nil {
					t.Fatal(err)
				}
			}
			return n
		}
		for range 2 {
			n := fill()
			if room := s.backlog.room; room == nil || len(room.frames) != n {
				t.Fatalf("%s: told after %d frames, when some had been looked at", name, n)
			}
			for range 50 {
				if body == "" {
					if err := s.keep(whole('Q', "\x00")); err != nil {
						t.Fatal(err)
					}
				}
			}
			s.Look()
		}
		if !slices.Equal(told, []bool{false, true, false, true}) {
			t.Errorf("%s: told %v", name, told)
		}
	}
}

// TestErrorLaterLetsNothingThrough: a record that failed ends the session, in both
// directions, and nothing is looked at behind it.
func TestErrorLaterLetsNothingThrough(t *testing.T) {
	t.Parallel()
	s, got := keeping()
	for range 3 {
		if err := s.keep(whole('Q', "SELECT 1\x00")); err != nil {
			t.Fatal(err)
		}
	}
	got.Err = errors.New("disk full")
	s.Look()
	answer := whole('Z', "I")
	answer.Direction = ToClient
	large := whole('Q', strings.Repeat("x", maxKeptBody)+"\x00")
	for _, f := range []*Frame{whole('Q', "SELECT 2\x00"), answer, large} {
		if err := s.keep(f); !errors.Is(err, got.Err) {
			t.Errorf("%q: %v", f.Type, err)
		}
	}
	if len(got.Requests) != 1 {
		t.Errorf("%d requests looked at, %d wait", len(got.Requests), len(s.queue))
	}
	s, got = keeping()
	if err := s.keep(whole('Q', "SELECT 1\x00")); err != nil {
		t.Fatal(err)
	}
	got.Err = errors.New("disk full")
	if err := s.keep(large); !errors.Is(err, got.Err) {
		t.Errorf("what waited could not be recorded, and more was let through: %v", err)
	}
}

// TestCopyDataIsCreditedOnce: a frame that came a little before one that was looked at
// first knows of less copy data; nothing is taken back, and nothing given twice.
func TestCopyDataIsCreditedOnce(t *testing.T) {
	t.Parallel()
	s, got := keeping()
	if err := s.keep(whole('Q', "COPY t FROM STDIN\x00")); err != nil {
		t.Fatal(err)
	}
	s.sizes[ToServer].Add(10)
	if err := s.lookAtOnce(whole('c', "")); err != nil {
		t.Fatal(err)
	}
	s.backlog.add(&Frame{Direction: ToClient, Type: 'G'}, [2]int64{ToServer: 4})
	s.Look()
	if s.credited[ToServer] != 10 || s.queue[0].CopyBytes != 10 {
		t.Errorf("%d bytes are credited, %d of them to the statement", s.credited[ToServer], s.queue[0].CopyBytes)
	}
	for _, f := range []*Frame{whole('C', "COPY 1\x00"), whole('Z', "I")} {
		f.Direction = ToClient
		if err := s.keep(f); err != nil {
			t.Fatal(err)
		}
	}
	s.Look()
	if n := len(got.Statements); n == 0 || got.Statements[n-1].CopyBytes != 10 {
		t.Errorf("on record: %+v", got.Statements)
	}
}

// TestBacklogOfTwoDirections: two goroutines bring frames, a third looks at them.
// Nothing is lost and each direction keeps its order.
func TestBacklogOfTwoDirections(t *testing.T) {
	t.Parallel()
	const n = 20_000
	soon := make(chan struct{}, 1)
	requests, results := 0, 0
	s := NewStatements(StatementsConfig{
		Kept: func(bool) { soon <- struct{}{} },
		Request: func(q *Request) (int64, error) {
			if requests++; len(q.Text.Value) != requests%100 {
				t.Errorf("request %d: %q", requests, q.Text.Value)
			}
			return int64(requests), nil
		},
		Record: func(st *Statement) error {
			if results++; st.ID != int64(results) || st.Outcome != Done {
				t.Errorf("result %d: of %d, %v", results, st.ID, st.Outcome)
			}
			return nil
		},
	})
	ended := make(chan struct{})
	var all, looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-soon:
				s.Look()
			case <-ended:
				return
			}
		}
	})
	sent := make(chan struct{}, 50)
	all.Go(func() {
		for i := range n {
			if err := s.keep(whole('Q', strings.Repeat("x", (i+1)%100)+"\x00")); err != nil {
				t.Error(err)
			}
			sent <- struct{}{}
		}
	})
	all.Go(func() {
		for range n {
			<-sent
			for _, f := range []*Frame{whole('C', "SELECT 1\x00"), whole('Z', "I")} {
				f.Direction = ToClient
				if err := s.keep(f); err != nil {
					t.Error(err)
				}
			}
		}
	})
	all.Wait()
	close(ended)
	looking.Wait()
	s.Close()
	if requests != n || results != n {
		t.Errorf("%d requests and %d results of %d", requests, results, n)
	}
}
