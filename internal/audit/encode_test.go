package audit

import (
	"strings"
	"testing"
	"time"
)

// What is written without encoding/json reads as if it were.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", `"q" \ `, "a\nb\tc\rd", "\x00\x1f\x7f", "é", "x\xffy", "\u2028", "<&>", strings.Repeat("long ", 50) + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString([]byte("before"), s); string(got) != "before"+string(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// The text of a second is used again for as long as it lasts, and no longer.
func TestClockTextFollowsTheClock(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var c clockText
	for _, at := range []time.Time{
		{},
		time.Unix(0, 0), noon, noon.Add(7 * time.Millisecond), noon.Add(999_999 * time.Microsecond), noon.Add(time.Second),
		noon, noon.Add(-time.Millisecond), noon.In(time.FixedZone("east", 3600)), time.Unix(-1, 5e6),
	} {
		if got, want := string(c.append(nil, at)), at.UTC().Format(timeFormat); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Ids are read from the source of randomness in portions; none comes twice.
func TestUniqueIDsDiffer(t *testing.T) {
	t.Parallel()
	var r randomness
	seen := map[string]bool{}
	for range 1000 {
		seen[string(r.appendUID(nil))] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different ids of 1000", len(seen))
	}
}
