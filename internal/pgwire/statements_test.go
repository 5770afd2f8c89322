package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Bodies of requests.
func bodyParse(name, sql string, types ...uint32) string {
	b := []byte(name + "\x00" + sql + "\x00")
	b = binary.BigEndian.AppendUint16(b, uint16(len(types)))
	for _, t := range types {
		b = binary.BigEndian.AppendUint32(b, t)
	}
	return string(b)
}

func bodyBind(portal, statement string, binary_ bool, values ...string) string {
	b := []byte(portal + "\x00" + statement + "\x00")
	if binary_ {
		b = append(b, 0, 1, 0, 1)
	} else {
		b = append(b, 0, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		if v == "NULL" {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return string(append(b, 0, 0))
}

func bodyExecute(portal string, rows uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte(portal+"\x00"), rows))
}

// talk feeds a conversation to s: items "> T body" are the client's, "< T body"
// the server's.
func talk(t *testing.T, s *Statements, lines ...string) {
	t.Helper()
	for _, line := range lines {
		f := &Frame{Direction: ToServer, Type: line[2], Body: []byte(line[min(4, len(line)):])}
		if line[0] == '<' {
			f.Direction = ToClient
		}
		f.Length = len(f.Body)
		if f.Type == 'd' { // never shown, only counted
			s.sizes[f.Direction].Add(int64(f.Length))
			continue
		}
		if err := s.frame(f); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
}

const (
	tagSelect = "< C SELECT 1\x00"
	tagInsert = "< C INSERT 0 3\x00"
	failure   = "< E SERROR\x00VERROR\x00C42P01\x00Mno table\x00\x00"
	idle      = "< Z I"
	inTx      = "< Z T"
)

func extended(name, sql string, values ...string) []string {
	return []string{"> P " + bodyParse(name, sql), "> B " + bodyBind("", name, false, values...), "> D P\x00", "> E " + bodyExecute("", 0)}
}

func text(s string) Text { return Text{s, len(s)} }

// told is a statement together with what its requests said.
type told struct {
	Kind              StatementKind
	Outcome           Outcome
	Text              Text
	Params            []Argument
	Function          uint32
	Unresolved        bool
	Secret            bool
	Name, Portal      string
	Tags              []string
	Rows              int64
	SQLState, Message string
	TxStatus          byte
	Copy              CopyMode
	CopyBytes         int64
}

// listener joins requests with what became of them.
type listener struct {
	requests []Request // by id - 1
	got      []told
	copies   []CopyMode // that began
}

// keepRequest returns what may be kept of a request.
func keepRequest(q *Request) Request {
	kept := *q
	kept.Params = slices.Clone(q.Params)
	return kept
}

// config wants everything, and takes statements with the word secret for such.
func (l *listener) config() StatementsConfig {
	return StatementsConfig{
		Request: func(q *Request) (int64, error) {
			l.requests = append(l.requests, keepRequest(q))
			return int64(len(l.requests)), nil
		},
		Record: func(st *Statement) error {
			if st.Outcome == Copying {
				l.copies = append(l.copies, st.Copy)
			} else {
				l.got = append(l.got, l.tell(*st))
			}
			return nil
		},
		Secret: func(sql string) bool { return strings.Contains(sql, "secret") },
		Values: true,
	}
}

func (l *listener) tell(st Statement) told {
	of := func(id int64) Request {
		if id == 0 {
			return Request{}
		}
		return l.requests[id-1]
	}
	what := told{
		Kind: st.Kind, Outcome: st.Outcome, Text: of(st.ID).Text, Params: of(st.BindID).Params, Function: of(st.ID).Function,
		Unresolved: st.Unresolved, Secret: st.Secret, Name: st.Name, Portal: st.Portal, Tags: st.Tags, Rows: st.Rows,
		SQLState: st.SQLState, Message: st.Message, TxStatus: st.TxStatus, Copy: st.Copy, CopyBytes: st.CopyBytes,
	}
	if st.ParseID != 0 {
		what.Text = of(st.ParseID).Text
	}
	if st.Kind == KindFunctionCall {
		what.Params = of(st.ID).Params
	}
	return what
}

func TestStatements(t *testing.T) {
	t.Parallel()
	a := []Argument{{Text: "7", Length: 1}, {Null: true}}
	tests := []struct {
		name  string
		lines [][]string
		want  []told
	}{
		{
			"simple query of two statements",
			[][]string{{"> Q select 1; insert\x00", "< T row", tagSelect, tagInsert, inTx}},
			[]told{{Kind: KindQuery, Outcome: Done, Text: text("select 1; insert"), Tags: []string{"SELECT 1", "INSERT 0 3"}, Rows: 4, TxStatus: 'T'}},
		},
		{
			"simple query fails, empty query",
			[][]string{{"> Q oops\x00", failure, idle, "> Q \x00", "< I", idle}},
			[]told{
				{Kind: KindQuery, Outcome: Failed, Text: text("oops"), SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Rows: -1, TxStatus: 'I'},
			},
		},
		{
			"extended with values",
			[][]string{extended("", "select $1, $2", "7", "NULL"), {"> S", "< 1", "< 2", "< T row", tagSelect, idle}},
			[]told{{Kind: KindExecute, Outcome: Done, Text: text("select $1, $2"), Params: a, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'}},
		},
		{
			"types from the answer to Describe",
			[][]string{
				{"> P " + bodyParse("s", "select $1"), "> D Ss\x00", "> S", "< 1", "< t \x00\x01\x00\x00\x00\x17", "< T row", idle},
				{"> B " + bodyBind("", "s", true, "\x00\x00\x01\x00"), "> E " + bodyExecute("", 0), "> S", "< 2", tagSelect, idle},
			},
			[]told{{Kind: KindExecute, Outcome: Done, Text: text("select $1"), Name: "s", Params: []Argument{{Text: "256", Length: 4}}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'}},
		},
		{
			"error takes the rest of its pipeline",
			[][]string{
				extended("", "one"), extended("", "two"),
				{"> S"},
				extended("", "three"),
				{"> S"},
				{"< 1", "< 2", "< n", tagInsert, "< 1", "< 2", "< n", failure, idle, "< 1", "< 2", "< n", tagSelect, idle},
			},
			[]told{
				{Kind: KindExecute, Outcome: Done, Text: text("one"), Params: []Argument{}, Tags: []string{"INSERT 0 3"}, Rows: 3, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Failed, Text: text("two"), Params: []Argument{}, SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Text: text("three"), Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"error in Parse skips what follows, also what is sent later",
			[][]string{extended("", "bad"), {failure}, {"> Q never\x00"}, {"> S", idle, "> Q ok\x00", tagSelect, idle}},
			[]told{
				{Kind: KindParse, Outcome: Failed, Text: text("bad"), SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Skipped, Rows: -1, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Skipped, Text: text("never"), Rows: -1, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Text: text("ok"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"a failed Parse does not change what a name stands for",
			[][]string{
				{"> P " + bodyParse("s", "evil"), "> S", "< 1", idle},
				{"> P " + bodyParse("s", "harmless"), "> S", "> B " + bodyBind("", "s", false), "> E " + bodyExecute("", 0), "> S"},
				{failure, idle, "< 2", tagSelect, idle},
			},
			[]told{
				{Kind: KindParse, Outcome: Failed, Text: text("harmless"), Name: "s", SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Text: text("evil"), Name: "s", Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"suspended portal, closed statement, unknown portal",
			[][]string{
				{"> P " + bodyParse("s", "rows"), "> B " + bodyBind("p", "s", false), "> E " + bodyExecute("p", 2), "> E " + bodyExecute("p", 2), "> C Ss\x00", "> C Pp\x00", "> S"},
				{"< 1", "< 2", "< s", tagSelect, "< 3", "< 3", inTx, "> E " + bodyExecute("p", 0), failure, "> S", inTx},
			},
			[]told{
				{Kind: KindExecute, Outcome: Suspended, Text: text("rows"), Name: "s", Portal: "p", Params: []Argument{}, Rows: 2, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Text: text("rows"), Name: "s", Portal: "p", Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Failed, Unresolved: true, Portal: "p", SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'T'},
			},
		},
		{
			"COPY in, simple",
			[][]string{{"> Q copy t from stdin\x00", "< G", "> d 123", "> d 45", "> c", "< C COPY 2\x00", idle, "> Q x\x00", tagSelect, idle}},
			[]told{
				{Kind: KindQuery, Outcome: Done, Text: text("copy t from stdin"), Tags: []string{"COPY 2"}, Rows: 2, Copy: CopyIn, CopyBytes: 5, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in, extended: the Sync sent with it is ignored",
			[][]string{extended("", "copy"), {"> S", "< 1", "< 2", "< n", "< G", "> d 123", "> c", "> S", "< C COPY 1\x00", idle, "> Q x\x00", tagSelect, idle}},
			[]told{
				{Kind: KindExecute, Outcome: Done, Text: text("copy"), Params: []Argument{}, Tags: []string{"COPY 1"}, Rows: 1, Copy: CopyIn, CopyBytes: 3, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in, extended, all sent before the answer",
			[][]string{extended("", "copy"), {"> S", "> d 123", "> c", "> S", "> Q x\x00", "< 1", "< 2", "< n", "< G", "< C COPY 1\x00", idle, tagSelect, idle}},
			[]told{
				{Kind: KindExecute, Outcome: Done, Text: text("copy"), Params: []Argument{}, Tags: []string{"COPY 1"}, Rows: 1, Copy: CopyIn, CopyBytes: 3, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in fails, extended",
			[][]string{extended("", "copy"), {"> S", "< 1", "< 2", "< n", "< G", "> d bad", failure, "> d more", "> c", "> S", idle, "> Q x\x00", tagSelect, idle}},
			[]told{
				{Kind: KindExecute, Outcome: Failed, Text: text("copy"), Params: []Argument{}, SQLState: "42P01", Message: "no table", Rows: -1, Copy: CopyIn, CopyBytes: 3, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in fails after a Sync among its data: nothing that follows is called skipped",
			[][]string{extended("", "copy"), {"> S", "< 1", "< 2", "< n", "< G", "> d bad", "> S"}, extended("", "hidden"), {"> S", failure}},
			[]told{
				{Kind: KindExecute, Outcome: Failed, Text: text("copy"), Params: []Argument{}, SQLState: "42P01", Message: "no table", Rows: -1, Copy: CopyIn, CopyBytes: 3, TxStatus: 'I'},
				{Kind: KindParse, Outcome: Unknown, Text: text("hidden"), Rows: -1, TxStatus: 'I'},
				{Kind: KindBind, Outcome: Unknown, Params: []Argument{}, Rows: -1, TxStatus: 'I'},
				{Kind: KindDescribe, Outcome: Unknown, Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Unknown, Rows: -1, TxStatus: 'I'},
			},
		},
		{
			"COPY out",
			[][]string{{"> Q copy t to stdout\x00", "< H", "< d 1234", "< d 5", "< C COPY 2\x00", idle}},
			[]told{{Kind: KindQuery, Outcome: Done, Text: text("copy t to stdout"), Tags: []string{"COPY 2"}, Rows: 2, Copy: CopyOut, CopyBytes: 5, TxStatus: 'I'}},
		},
		{
			"several COPY in one simple query",
			[][]string{{"> Q copy a to stdout; copy b from stdin; copy c to stdout\x00", "< H", "< d 1", "< C COPY 1\x00", "< G", "> d 12345", "> c", "< C COPY 1\x00", "< H", "< d 22", "< C COPY 1\x00", idle}},
			[]told{{Kind: KindQuery, Outcome: Done, Text: text("copy a to stdout; copy b from stdin; copy c to stdout"), Tags: []string{"COPY 1", "COPY 1", "COPY 1"}, Rows: 3, Copy: CopyOut, CopyBytes: 8, TxStatus: 'I'}},
		},
		{
			"replication",
			[][]string{{"> Q START_REPLICATION\x00", "< W", "< d 1234", "> d 56", "> c", "< C COPY 0\x00", "< C START_REPLICATION\x00", idle}},
			[]told{{Kind: KindQuery, Outcome: Done, Text: text("START_REPLICATION"), Tags: []string{"COPY 0", "START_REPLICATION"}, Copy: CopyBoth, CopyBytes: 6, TxStatus: 'I'}},
		},
		{
			"a COPY that is broken off by the client",
			[][]string{{"> Q copy t from stdin\x00", "< G", "> d 123", "> f no more\x00", failure, idle}},
			[]told{{Kind: KindQuery, Outcome: Failed, Text: text("copy t from stdin"), SQLState: "42P01", Message: "no table", Rows: -1, Copy: CopyIn, CopyBytes: 3, TxStatus: 'I'}},
		},
		{
			"a name that SQL prepares is not what it was",
			[][]string{
				{"> P " + bodyParse("s", "select harmless"), "> S", "< 1", idle, "> Q deallocate s; prepare s as delete\x00", "< C DEALLOCATE\x00", "< C PREPARE\x00", idle},
				{"> B " + bodyBind("", "s", false), "> E " + bodyExecute("", 0), "> S", "< 2", tagInsert, idle},
			},
			[]told{
				{Kind: KindQuery, Outcome: Done, Text: text("deallocate s; prepare s as delete"), Tags: []string{"DEALLOCATE", "PREPARE"}, Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Unresolved: true, Name: "s", Params: []Argument{}, Tags: []string{"INSERT 0 3"}, Rows: 3, TxStatus: 'I'},
			},
		},
		{
			"function call",
			[][]string{{"> F \x00\x00\x04\x00\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00", "< V ", idle}},
			[]told{{Kind: KindFunctionCall, Outcome: Done, Function: 1024, Params: []Argument{{Text: "x", Length: 1}}, Rows: -1, TxStatus: 'I'}},
		},
		{
			"commit at the end of a pipeline fails",
			[][]string{extended("", "insert"), {"> S", "< 1", "< 2", "< n", tagInsert, failure, idle}},
			[]told{
				{Kind: KindExecute, Outcome: Done, Text: text("insert"), Params: []Argument{}, Tags: []string{"INSERT 0 3"}, Rows: 3, TxStatus: 'I'},
				{Kind: KindCommit, Outcome: Failed, SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
			},
		},
		{
			"DISCARD ALL forgets statements",
			[][]string{
				{"> P " + bodyParse("s", "one"), "> S", "< 1", idle, "> Q discard all\x00", "< C DISCARD ALL\x00", idle},
				{"> B " + bodyBind("", "s", false), "> E " + bodyExecute("", 0), "> S", "< 2", tagSelect, idle},
			},
			[]told{
				{Kind: KindQuery, Outcome: Done, Text: text("discard all"), Tags: []string{"DISCARD ALL"}, Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Unresolved: true, Name: "s", Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"the session ends first",
			[][]string{{"> Q long\x00", "< E SFATAL\x00VFATAL\x00C57P01\x00Mbye\x00\x00"}},
			[]told{{Kind: KindQuery, Outcome: Failed, Text: text("long"), SQLState: "57P01", Message: "bye", Rows: -1, TxStatus: 'I'}},
		},
		{
			"no answer at all",
			[][]string{{"> Q long\x00"}},
			[]told{{Kind: KindQuery, Outcome: Unknown, Text: text("long"), Rows: -1, TxStatus: 'I'}},
		},
		{
			"an answer that nobody asked for is on record",
			[][]string{{"> Q x\x00", tagSelect, idle, tagInsert, "> Q y\x00"}},
			[]told{
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Unresolved: true, Tags: []string{"INSERT 0 3"}, Rows: 3, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Unknown, Text: text("y"), Rows: -1, TxStatus: 'I'},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var heard listener
			s := NewStatements(heard.config())
			for _, lines := range tt.lines {
				talk(t, s, lines...)
			}
			s.Close()
			if diff := cmp.Diff(tt.want, heard.got); diff != "" {
				t.Errorf("statements (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStatementsStayBounded checks that a client that never reads answers loses
// their outcome, but no statement, and does not fill the memory.
func TestStatementsStayBounded(t *testing.T) {
	t.Parallel()
	recorded := 0
	s := NewStatements(StatementsConfig{Record: func(*Statement) error { recorded++; return nil }})
	const n = 15_000
	for range n {
		talk(t, s, "> Q "+strings.Repeat("x", 1000)+"\x00")
	}
	if s.held > maxHeld || len(s.queue) != 0 || recorded != n {
		t.Errorf("%d bytes held, %d queued, %d recorded", s.held, len(s.queue), recorded)
	}
	s = NewStatements(StatementsConfig{Record: func(*Statement) error { return nil }})
	for i := range 20_000 {
		talk(t, s, "> P "+bodyParse(fmt.Sprint(i), strings.Repeat("x", 1000)), "> S", "< 1", idle)
	}
	if s.held > maxHeld {
		t.Errorf("%d bytes of prepared statements held", s.held)
	}
}

func TestHeldIsExact(t *testing.T) {
	t.Parallel()
	s := NewStatements(StatementsConfig{Record: func(*Statement) error { return nil }})
	for range 3 {
		talk(t, s, extended("s", "select", "1", "2")...)
		talk(t, s, "> S", "< 1", "< 2", "< n", tagSelect, idle)
		talk(t, s, "> C Ss\x00", "> S", "< 3", idle)
		talk(t, s, "> Q copy\x00", "> d x", "> c", "< G", tagSelect, idle)
		talk(t, s, extended("s", "bad", "1")...)
		talk(t, s, "> S", failure, idle)
	}
	if s.held != 0 || len(s.queue) != 0 {
		t.Errorf("%d bytes held of nothing", s.held)
	}
}

// bound are the values of the last Bind that was shown.
func (l *listener) bound() Request { return l.requests[len(l.requests)-1] }

// TestValuesAreDecodedByCertainTypes: by those of the statement that the server will
// take, and by none where two are possible.
func TestValuesAreDecodedByCertainTypes(t *testing.T) {
	t.Parallel()
	const int4, float4 = 23, 700
	bind := "> B " + bodyBind("", "s", true, "\x00\x00\x00\x07")
	unnamed := "> B " + bodyBind("", "", true, "\x00\x00\x00\x07")
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"sent together", []string{"> P " + bodyParse("s", "x", int4), bind}, "7"},
		{"answered", []string{"> P " + bodyParse("s", "x", int4), "> S", "< 1", idle, bind}, "7"},
		{"described", []string{"> P " + bodyParse("s", "x"), "> D Ss\x00", "> S", "< 1", "< t \x00\x01\x00\x00\x00\x17", "< n", idle, bind}, "7"},
		{"not answered yet", []string{"> P " + bodyParse("s", "x", int4), "> S", bind}, `\x00000007::0`},
		{
			"prepared a second time, which fails",
			[]string{"> P " + bodyParse("s", "x", int4), "> S", "< 1", idle, "> P " + bodyParse("s", "y", float4), "> S", failure, idle, bind},
			"7",
		},
		{
			"prepared a second time, not answered yet",
			[]string{"> P " + bodyParse("s", "x", int4), "> S", "< 1", idle, "> P " + bodyParse("s", "y", float4), "> S", bind},
			`\x00000007::0`,
		},
		{
			"replaced in the same pipeline",
			[]string{"> P " + bodyParse("", "x", float4), "> S", "< 1", idle, "> P " + bodyParse("", "y", int4), unnamed},
			"7",
		},
		{
			"replaced in a pipeline that failed before",
			[]string{"> P " + bodyParse("", "x", int4), "> S", "< 1", idle, "> E " + bodyExecute("", 0), "> P " + bodyParse("", "y", float4), "> S", failure, idle, unnamed},
			"7",
		},
		{"closed", []string{"> P " + bodyParse("s", "x", int4), "> C Ss\x00", "> S", "< 1", "< 3", idle, bind}, `\x00000007::0`},
		{"never prepared", []string{bind}, `\x00000007::0`},
		{"no longer matched", []string{tagInsert, "> P " + bodyParse("s", "x", int4), bind}, "7"},
		{"no longer matched, another pipeline", []string{tagInsert, "> P " + bodyParse("s", "x", int4), "> S", bind}, `\x00000007::0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var heard listener
			talk(t, NewStatements(heard.config()), tt.lines...)
			if got := heard.bound().Params; len(got) != 1 || got[0].Text != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// TestValuesOfSecretStatementsAreWithheld, whatever is tried to mix statements up.
func TestValuesOfSecretStatementsAreWithheld(t *testing.T) {
	t.Parallel()
	secret, plain := "> P "+bodyParse("s", "a secret"), "> P "+bodyParse("s", "plain")
	bind := "> B " + bodyBind("", "s", false, "hush")
	for _, tt := range []struct {
		name     string
		lines    []string
		withheld bool
	}{
		{"sent together", []string{secret, bind}, true},
		{"answered", []string{secret, "> S", "< 1", idle, bind}, true},
		{"not answered yet", []string{secret, "> S", bind}, true},
		{"replaced by a plain one, perhaps", []string{secret, "> S", "< 1", idle, plain, "> S", bind}, true},
		{"replaced by a plain one twice, perhaps", []string{secret, "> S", plain, "> S", plain, "> S", bind}, true},
		{"closed and replaced by a plain one", []string{secret, "> S", "< 1", idle, "> C Ss\x00", plain, "> S", "< 3", "< 1", idle, bind}, false},
		{"no longer matched", []string{tagInsert, secret, bind}, true},
		{"plain", []string{plain, bind}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var heard listener
			talk(t, NewStatements(heard.config()), tt.lines...)
			got := heard.bound()
			if got.Withheld != tt.withheld || got.Withheld == (got.Params != nil) || got.Count != 1 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestSecretErrors: what became of a secret statement says that it is one.
func TestSecretErrors(t *testing.T) {
	t.Parallel()
	var heard listener
	s := NewStatements(heard.config())
	talk(t, s, "> Q a secret\x00", failure, idle)
	talk(t, s, extended("s", "another secret", "x")...)
	talk(t, s, "> S", "< 1", failure, idle, "> B "+bodyBind("", "s", false, "x"), "> E "+bodyExecute("", 0), "> S", "< 2", failure, idle)
	for i, got := range heard.got {
		if !got.Secret && got.Outcome == Failed {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if len(heard.got) != 4 { // query, Bind, Execute skipped, Execute
		t.Errorf("%d statements", len(heard.got))
	}
}

// TestErrorsOfTheListenerEndTheSession, in both directions.
func TestErrorsOfTheListenerEndTheSession(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	s := NewStatements(StatementsConfig{Request: func(*Request) (int64, error) { return 0, full }, Record: func(*Statement) error { return nil }})
	if err := s.frame(whole('Q', "x\x00")); !errors.Is(err, full) || len(s.queue) != 0 {
		t.Errorf("got %v", err)
	}
	s = NewStatements(StatementsConfig{Record: func(*Statement) error { return full }})
	talk(t, s, "> Q x\x00", tagSelect)
	answer := whole('Z', "I")
	answer.Direction = ToClient
	if err := s.frame(answer); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// TestCutTextStaysText: only the character that the cut went through is left out.
func TestCutTextStaysText(t *testing.T) {
	t.Parallel()
	var heard listener
	s := NewStatements(heard.config())
	body := "a\xffb\xe2\x82"
	if err := s.frame(&Frame{Type: 'Q', Length: 100, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Text{"a\uFFFDb", 99}, heard.bound().Text); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}
