package pgwire

import (
	"slices"
	"testing"
	"time"
)

// TestTimesAreThoseOfReading: a request begins when it was read, or with the answer to
// the one before, and ends when its answer was read.
func TestTimesAreThoseOfReading(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var requests []time.Time
	var got []Statement
	s := NewStatements(StatementsConfig{
		Request: func(q *Request) (int64, error) { requests = append(requests, q.At); return 1, nil },
		Record:  func(st *Statement) error { got = append(got, *st); return nil },
	})
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	for _, f := range []*Frame{
		{Type: 'Q', Body: []byte("SELECT 1\x00"), At: at(0)},
		{Type: 'Q', Body: []byte("SELECT 2\x00"), At: at(1)},
		{Direction: ToClient, Type: 'C', Body: []byte("SELECT 1\x00"), At: at(4)},
		{Direction: ToClient, Type: 'Z', Body: []byte("I"), At: at(5)},
		{Direction: ToClient, Type: 'C', Body: []byte("SELECT 1\x00"), At: at(7)},
		{Direction: ToClient, Type: 'Z', Body: []byte("I"), At: at(7)},
		// The directions are read by two goroutines; one may come later with what it read earlier.
		{Type: 'Q', Body: []byte("SELECT 3\x00"), At: at(20)},
		{Direction: ToClient, Type: 'Z', Body: []byte("I"), At: at(19)},
	} {
		f.Length = len(f.Body)
		if err := s.frame(f); err != nil {
			t.Fatal(err)
		}
	}
	if want := []time.Time{at(0), at(1), at(20)}; !slices.Equal(requests, want) {
		t.Errorf("requests at %v, want %v", requests, want)
	}
	if len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []struct {
		start, end time.Time
		took       time.Duration
	}{{at(0), at(5), 5 * time.Millisecond}, {at(1), at(7), 2 * time.Millisecond}, {at(20), at(19), 0}} {
		if st := got[i]; st.Start != want.start || st.End != want.end || st.Duration != want.took {
			t.Errorf("statement %d: %v to %v, %v; want %v", i, st.Start, st.End, st.Duration, want)
		}
	}
}

// TestFramesOfOneReadHaveOneTime: the clock is looked at once for what is read together,
// and again for what is read later.
func TestFramesOfOneReadHaveOneTime(t *testing.T) {
	t.Parallel()
	var times []time.Time
	observe := Observe{Headers: [2]TypeSet{ToServer: Types("S")}, Frame: func(f *Frame) error { times = append(times, f.At); return nil }}
	s := scanner{observe: &observe}
	for range 2 {
		if _, err := s.scan([]byte("S\x00\x00\x00\x04S\x00\x00\x00\x04")); err != nil {
			t.Fatal(err)
		}
		for last := times[len(times)-1]; !time.Now().After(last); { // clocks have steps
		}
	}
	if len(times) != 4 || times[0].IsZero() || times[0] != times[1] || times[2] != times[3] || !times[2].After(times[1]) {
		t.Errorf("got %v", times)
	}
}
