package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

// read returns the sequence numbers that match.
func read(t testing.TB, dir string, from uint64, f audit.Filter) []uint64 {
	t.Helper()
	var seqs []uint64
	for r, err := range audit.Read(t.Context(), dir, from, f) {
		if err != nil {
			t.Fatalf("%v: %s", err, fault.Of(err).Detail)
		}
		seqs = append(seqs, r.Seq)
	}
	return seqs
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := written(t, 10, 1000)
	for from := range uint64(12) {
		var want []uint64
		for seq := max(from, 1); seq <= 10; seq++ {
			want = append(want, seq)
		}
		if got := read(t, dir, from, audit.Filter{}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("from %d: got %v, want %v", from, got, want)
		}
	}
	if end, err := audit.End(t.Context(), dir); err != nil || end != 10 {
		t.Errorf("End = %d, %v", end, err)
	}
	n := 0
	for _, err := range audit.Read(t.Context(), dir, 0, audit.Filter{}) {
		if err != nil {
			t.Error(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d steps of a loop that ended after one", n)
	}
}

func TestReadWithoutLog(t *testing.T) {
	t.Parallel()
	for _, err := range audit.Read(t.Context(), logDir(t), 0, audit.Filter{}) {
		if err == nil || fault.KindOf(err) != fault.NotFound {
			t.Errorf("got %v, want NotFound", err)
		}
	}
	if _, err := audit.End(t.Context(), logDir(t)); err == nil || fault.KindOf(err) != fault.NotFound {
		t.Errorf("End: %v, want NotFound", err)
	}
	if got := read(t, t.TempDir(), 0, audit.Filter{}); got != nil {
		t.Errorf("an empty directory has %v", got)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	dir := written(t, 2, 0)
	path := segmentFiles(t, dir)[0]
	if end, err := audit.End(t.Context(), dir); err != nil || end != 2 {
		t.Errorf("End = %d, %v", end, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"torn":`); err != nil {
		t.Fatal(err)
	}
	if end, err := audit.End(t.Context(), dir); err != nil || end != 2 {
		t.Errorf("with a torn line: End = %d, %v", end, err)
	}
	if _, err := f.Write(append(bytes.Repeat([]byte("x"), 1<<20), '\n')); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.End(t.Context(), dir); err == nil || fault.KindOf(err) != fault.Invalid {
		t.Errorf("with a damaged line: %v, want Invalid", err)
	}
	if _, err := f.Write(bytes.Repeat([]byte("x"), 20<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.End(t.Context(), dir); err == nil || fault.KindOf(err) != fault.Invalid {
		t.Errorf("with an endless line: %v, want Invalid", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if end, err := audit.End(t.Context(), dir); err != nil || end != 0 {
		t.Errorf("empty: End = %d, %v", end, err)
	}
	long := logDir(t)
	l := open(t, audit.Config{Dir: long})
	for range 3 {
		if err := l.Emit(t.Context(), &audit.Statement{What: &audit.DatabaseQuery{Query: string(bytes.Repeat([]byte("x"), 200<<10))}}); err != nil {
			t.Fatal(err)
		}
	}
	if end, err := audit.End(t.Context(), long); err != nil || end != 3 {
		t.Errorf("long lines: End = %d, %v", end, err)
	}
}

// queryOf is a query of a session.
func queryOf(t *testing.T, s audit.Session, d audit.Database) audit.Event {
	t.Helper()
	of, err := s.Prepare(d)
	if err != nil {
		t.Fatal(err)
	}
	return &audit.Statement{Session: of, What: &audit.DatabaseQuery{}}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	l := open(t, audit.Config{Dir: dir, Now: func() time.Time { return now }})
	for i, ev := range []audit.Event{
		audit.Login{Actor: audit.Actor{User: "alice"}, Outcome: audit.OutcomeOf(nil)},
		audit.Login{Actor: audit.Actor{User: "bob"}},
		queryOf(t, audit.Session{Actor: audit.Actor{User: "alice"}, ID: "s1"}, audit.Database{Service: "orders"}),
		queryOf(t, audit.Session{Actor: audit.Actor{User: "bob"}, ID: "s2"}, audit.Database{Service: "shop"}),
	} {
		now = now.Add(time.Duration(i) * time.Minute) // 12:00, 12:01, 12:03, 12:06
		if err := l.Emit(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		filter audit.Filter
		want   []uint64
	}{
		"everything":   {audit.Filter{}, []uint64{1, 2, 3, 4}},
		"type":         {audit.Filter{Events: []string{"user.login"}}, []uint64{1, 2}},
		"code":         {audit.Filter{Events: []string{"T1000W", "TDB02W"}}, []uint64{2, 3, 4}},
		"user":         {audit.Filter{User: "alice"}, []uint64{1, 3}},
		"session":      {audit.Filter{Session: "s2"}, []uint64{4}},
		"database":     {audit.Filter{Database: "orders"}, []uint64{3}},
		"since":        {audit.Filter{Since: noon.Add(time.Minute)}, []uint64{2, 3, 4}},
		"until":        {audit.Filter{Until: noon.Add(3 * time.Minute)}, []uint64{1, 2}},
		"all together": {audit.Filter{Events: []string{"db.session.query"}, User: "alice", Database: "orders", Since: noon}, []uint64{3}},
		"nothing":      {audit.Filter{User: "carol"}, nil},
	} {
		if got := read(t, dir, 0, c.filter); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// A follower sees every line once and in order, over new segments and restarts
// of the writer with repairs in between.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const rounds, each = 3, 40
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for range rounds {
			l := open(t, audit.Config{Dir: dir, MaxSegment: 4000})
			for i := range each {
				if err := l.Post(t.Context(), query(i)); err != nil {
					t.Error(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if err := tear(dir); err != nil {
				t.Error(err)
			}
		}
	}()
	want := uint64(1)
	const total = rounds*each + rounds - 1 // with a repair at each opening but the first
	for r, err := range audit.Follow(ctx, dir, 0, audit.Filter{}) {
		if err != nil {
			t.Fatalf("%v: %s", err, fault.Of(err).Detail)
		}
		if r.Seq != want {
			t.Fatalf("line %d after %d", r.Seq, want-1)
		}
		if want++; want > total {
			break
		}
	}
	<-wrote
}

// tear leaves half a line at the end of the log, as a crash does.
func tear(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "events-*.jsonl"))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(`{"event":"db.sess`)
	return errors.Join(err, f.Close())
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := written(t, 1, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n := 0
	for _, err := range audit.Follow(ctx, dir, 0, audit.Filter{}) {
		n++
		last = err
		cancel()
	}
	if n != 2 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d steps, then %v", n, last)
	}
}

func TestReadersStopAtDamage(t *testing.T) {
	t.Parallel()
	dir := written(t, 3, 0)
	path := segmentFiles(t, dir)[0]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte("SELECT 1"), []byte("SELECT 7"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	var last error
	for r, err := range audit.Read(t.Context(), dir, 0, audit.Filter{}) {
		if last = err; err == nil {
			seqs = append(seqs, r.Seq)
		}
	}
	if len(seqs) != 1 || fault.KindOf(last) != fault.Invalid || last == nil {
		t.Errorf("read %v, then %v", seqs, last)
	}
}
