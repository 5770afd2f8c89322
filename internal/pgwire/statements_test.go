package pgwire

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
		f := Frame{Direction: ToServer, Type: line[2], Body: []byte(line[min(4, len(line)):])}
		if line[0] == '<' {
			f.Direction = ToClient
		}
		f.Length = len(f.Body)
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

func TestStatements(t *testing.T) {
	t.Parallel()
	a := []Argument{{Text: "7", Length: 1}, {Null: true}}
	tests := []struct {
		name  string
		lines [][]string
		want  []Statement
	}{
		{
			"simple query of two statements",
			[][]string{{"> Q select 1; insert\x00", "< T row", tagSelect, tagInsert, inTx}},
			[]Statement{{Kind: KindQuery, Outcome: Done, Text: text("select 1; insert"), Tags: []string{"SELECT 1", "INSERT 0 3"}, Rows: 4, TxStatus: 'T'}},
		},
		{
			"simple query fails, empty query",
			[][]string{{"> Q oops\x00", failure, idle, "> Q \x00", "< I", idle}},
			[]Statement{
				{Kind: KindQuery, Outcome: Failed, Text: text("oops"), SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Rows: -1, TxStatus: 'I'},
			},
		},
		{
			"extended with values",
			[][]string{extended("", "select $1, $2", "7", "NULL"), {"> S", "< 1", "< 2", "< T row", tagSelect, idle}},
			[]Statement{{Kind: KindExecute, Outcome: Done, Text: text("select $1, $2"), Params: a, Tags: []string{"SELECT 1"}, Rows: 1}},
		},
		{
			"types from the answer to Describe",
			[][]string{
				{"> P " + bodyParse("s", "select $1"), "> D Ss\x00", "> S", "< 1", "< t \x00\x01\x00\x00\x00\x17", "< T row", idle},
				{"> B " + bodyBind("", "s", true, "\x00\x00\x01\x00"), "> E " + bodyExecute("", 0), "> S", "< 2", tagSelect, idle},
			},
			[]Statement{{Kind: KindExecute, Outcome: Done, Text: text("select $1"), Name: "s", Params: []Argument{{Text: "256", Length: 4}}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'}},
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
			[]Statement{
				{Kind: KindExecute, Outcome: Done, Text: text("one"), Params: []Argument{}, Tags: []string{"INSERT 0 3"}, Rows: 3},
				{Kind: KindExecute, Outcome: Failed, Text: text("two"), Params: []Argument{}, SQLState: "42P01", Message: "no table", Rows: -1},
				{Kind: KindExecute, Outcome: Done, Text: text("three"), Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1},
			},
		},
		{
			"error in Parse skips what follows, also what is sent later",
			[][]string{extended("", "bad"), {failure}, {"> Q never\x00"}, {"> S", idle, "> Q ok\x00", tagSelect, idle}},
			[]Statement{
				{Kind: KindParse, Outcome: Failed, Text: text("bad"), SQLState: "42P01", Message: "no table", Rows: -1},
				{Kind: KindExecute, Outcome: Skipped, Rows: -1},
				{Kind: KindQuery, Outcome: Skipped, Text: text("never"), Rows: -1},
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
			[]Statement{
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
			[]Statement{
				{Kind: KindExecute, Outcome: Suspended, Text: text("rows"), Name: "s", Portal: "p", Params: []Argument{}, Rows: 2},
				{Kind: KindExecute, Outcome: Done, Text: text("rows"), Name: "s", Portal: "p", Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1},
				{Kind: KindExecute, Outcome: Failed, Unresolved: true, Portal: "p", SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'T'},
			},
		},
		{
			"COPY in, simple",
			[][]string{{"> Q copy t from stdin\x00", "< G", "> d 123", "> d 45", "> c", "< C COPY 2\x00", idle, "> Q x\x00", tagSelect, idle}},
			[]Statement{
				{Kind: KindQuery, Outcome: Done, Text: text("copy t from stdin"), Tags: []string{"COPY 2"}, Rows: 2, CopyBytes: 5, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in, extended: the Sync sent with it is ignored",
			[][]string{extended("", "copy"), {"> S", "< 1", "< 2", "< n", "< G", "> d 123", "> c", "> S", "< C COPY 1\x00", idle, "> Q x\x00", tagSelect, idle}},
			[]Statement{
				{Kind: KindExecute, Outcome: Done, Text: text("copy"), Params: []Argument{}, Tags: []string{"COPY 1"}, Rows: 1, CopyBytes: 3},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in, extended, all sent before the answer",
			[][]string{extended("", "copy"), {"> S", "> d 123", "> c", "> S", "> Q x\x00", "< 1", "< 2", "< n", "< G", "< C COPY 1\x00", idle, tagSelect, idle}},
			[]Statement{
				{Kind: KindExecute, Outcome: Done, Text: text("copy"), Params: []Argument{}, Tags: []string{"COPY 1"}, Rows: 1, CopyBytes: 3},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in fails, extended",
			[][]string{extended("", "copy"), {"> S", "< 1", "< 2", "< n", "< G", "> d bad", failure, "> d more", "> c", "> S", idle, "> Q x\x00", tagSelect, idle}},
			[]Statement{
				{Kind: KindExecute, Outcome: Failed, Text: text("copy"), Params: []Argument{}, SQLState: "42P01", Message: "no table", Rows: -1, CopyBytes: 3},
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"COPY in fails after a Sync among its data: nothing that follows is called skipped",
			[][]string{extended("", "copy"), {"> S", "< 1", "< 2", "< n", "< G", "> d bad", "> S"}, extended("", "hidden"), {"> S", failure}},
			[]Statement{
				{Kind: KindExecute, Outcome: Failed, Text: text("copy"), Params: []Argument{}, SQLState: "42P01", Message: "no table", Rows: -1, CopyBytes: 3},
				{Kind: KindParse, Outcome: Unknown, Text: text("hidden"), Rows: -1},
				{Kind: KindBind, Outcome: Unknown, Params: []Argument{}, Rows: -1},
				{Kind: KindDescribe, Outcome: Unknown, Rows: -1},
				{Kind: KindExecute, Outcome: Unknown, Rows: -1},
			},
		},
		{
			"COPY out",
			[][]string{{"> Q copy t to stdout\x00", "< d 1234", "< d 5", "< C COPY 2\x00", idle}},
			[]Statement{{Kind: KindQuery, Outcome: Done, Text: text("copy t to stdout"), Tags: []string{"COPY 2"}, Rows: 2, CopyBytes: 5, TxStatus: 'I'}},
		},
		{
			"function call",
			[][]string{{"> F \x00\x00\x04\x00\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00", "< V ", idle}},
			[]Statement{{Kind: KindFunctionCall, Outcome: Done, Function: 1024, Params: []Argument{{Text: "x", Length: 1}}, Rows: -1, TxStatus: 'I'}},
		},
		{
			"commit at the end of a pipeline fails",
			[][]string{extended("", "insert"), {"> S", "< 1", "< 2", "< n", tagInsert, failure, idle}},
			[]Statement{
				{Kind: KindExecute, Outcome: Done, Text: text("insert"), Params: []Argument{}, Tags: []string{"INSERT 0 3"}, Rows: 3},
				{Kind: KindCommit, Outcome: Failed, SQLState: "42P01", Message: "no table", Rows: -1, TxStatus: 'I'},
			},
		},
		{
			"DISCARD ALL forgets statements",
			[][]string{
				{"> P " + bodyParse("s", "one"), "> S", "< 1", idle, "> Q discard all\x00", "< C DISCARD ALL\x00", idle},
				{"> B " + bodyBind("", "s", false), "> E " + bodyExecute("", 0), "> S", "< 2", tagSelect, idle},
			},
			[]Statement{
				{Kind: KindQuery, Outcome: Done, Text: text("discard all"), Tags: []string{"DISCARD ALL"}, Rows: -1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Unresolved: true, Name: "s", Params: []Argument{}, Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
			},
		},
		{
			"the session ends first",
			[][]string{{"> Q long\x00", "< E SFATAL\x00VFATAL\x00C57P01\x00Mbye\x00\x00"}},
			[]Statement{{Kind: KindQuery, Outcome: Failed, Text: text("long"), SQLState: "57P01", Message: "bye", Rows: -1}},
		},
		{
			"no answer at all",
			[][]string{{"> Q long\x00"}},
			[]Statement{{Kind: KindQuery, Outcome: Unknown, Text: text("long"), Rows: -1}},
		},
		{
			"an answer that nobody asked for is on record",
			[][]string{{"> Q x\x00", tagSelect, idle, tagInsert, "> Q y\x00"}},
			[]Statement{
				{Kind: KindQuery, Outcome: Done, Text: text("x"), Tags: []string{"SELECT 1"}, Rows: 1, TxStatus: 'I'},
				{Kind: KindExecute, Outcome: Done, Unresolved: true, Tags: []string{"INSERT 0 3"}, Rows: 3, TxStatus: 'I'},
				{Kind: KindQuery, Outcome: Unknown, Text: text("y"), Rows: -1, TxStatus: 'I'},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []Statement
			s := NewStatements(StatementsConfig{Record: func(st Statement) { got = append(got, st) }})
			for _, lines := range tt.lines {
				talk(t, s, lines...)
			}
			s.Close()
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Statement{}, "Start", "Duration")); diff != "" {
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
	s := NewStatements(StatementsConfig{Record: func(Statement) { recorded++ }})
	const n = 5000
	for range n {
		talk(t, s, "> Q "+strings.Repeat("x", 10_000)+"\x00")
	}
	if s.held > maxHeld || len(s.queue) != 0 || recorded != n {
		t.Errorf("%d bytes held, %d queued, %d recorded", s.held, len(s.queue), recorded)
	}
	s = NewStatements(StatementsConfig{Record: func(Statement) {}})
	for i := range 20_000 {
		talk(t, s, "> P "+bodyParse(fmt.Sprint(i), strings.Repeat("x", 1000)), "> S", "< 1", idle)
	}
	if s.held > maxHeld {
		t.Errorf("%d bytes of prepared statements held", s.held)
	}
}

func TestHeldIsExact(t *testing.T) {
	t.Parallel()
	s := NewStatements(StatementsConfig{Record: func(Statement) {}})
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
