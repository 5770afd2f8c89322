package audit

import (
	"regexp"
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

// While one event is encoded where it is queued, all others wait: nothing long is.
func TestNobodyWaitsForLongTexts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", inPlace+1)
	many := make([]*string, inPlace)
	enc := encoder{}
	for _, ev := range []StatementEvent{
		&DatabaseQuery{Query: long}, &DatabaseQuery{Parameters: many}, &StatementParse{Query: long}, &StatementParse{StatementName: long},
		&StatementBind{Parameters: many}, &StatementBind{Parameters: []*string{&long}}, &StatementBind{StatementName: long}, &StatementBind{PortalName: long},
		&StatementExecute{PortalName: long}, &StatementClose{StatementName: long}, &StatementClose{PortalName: long}, &FunctionCall{Arguments: many},
		&DatabaseResult{Outcome: Outcome{Message: long}}, &DatabaseResult{StatementName: long}, &DatabaseResult{PortalName: long},
	} {
		if fields, err := enc.fields(&Statement{What: ev}); err != nil || len(fields) <= inPlace {
			t.Errorf("%.40v: %d bytes are encoded before, %v", ev, len(fields), err)
		}
	}
	if fields, err := enc.fields(&Statement{What: &DatabaseQuery{Query: "SELECT 1"}}); err != nil || fields != nil {
		t.Errorf("a short one: %q, %v", fields, err)
	}
}

// Ids are UUIDs of version 4, and none comes twice; every bit that may differ does.
func TestUniqueIDsDiffer(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	const random = 1000
	var ids idText
	seen, digits := map[string]bool{}, map[int]map[byte]bool{}
	for n := range random * idsCounted {
		id := string(ids.append(nil))
		if !form.MatchString(id) {
			t.Fatalf("%s is no UUID of version 4", id)
		}
		seen[id] = true
		if n%idsCounted > 0 {
			continue
		}
		for i := range len(id) { // of those that are random
			if digits[i] == nil {
				digits[i] = map[byte]bool{}
			}
			digits[i][id[i]] = true
		}
	}
	if len(seen) != random*idsCounted {
		t.Errorf("%d different ids of %d", len(seen), random*idsCounted)
	}
	for i, found := range digits {
		want, special := map[int]int{8: 1, 13: 1, 14: 1, 18: 1, 19: 4, 23: 1}[i]
		if !special {
			want = 16
		}
		if len(found) != want {
			t.Errorf("place %d has %d different digits, want %d", i, len(found), want)
		}
	}
}

// Counting carries, and begins again where there are no more digits.
func TestCountedID(t *testing.T) {
	t.Parallel()
	for last, next := range map[string]string{
		"000000000000": "000000000001", "000000000009": "00000000000a", "00000000000f": "000000000010",
		"0123456789ff": "012345678a00", "ffffffffffff": "000000000000",
	} {
		const before = "01234567-89ab-4cde-8f01-"
		u := idText{left: 1}
		copy(u.text[:], before+last)
		if got := string(u.append(nil)); got != before+next {
			t.Errorf("after %s: %s, want %s", last, got, next)
		}
	}
}
