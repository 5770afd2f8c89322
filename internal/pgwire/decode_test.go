package pgwire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
)

func whole(typ byte, body string) *Frame {
	return &Frame{Type: typ, Length: len(body), Body: []byte(body)}
}

// cutTo returns f with only the first n bytes of its body.
func cutTo(f *Frame, n int) *Frame {
	short := *f
	short.Body = f.Body[:n]
	return &short
}

func TestDecodeWholeBodies(t *testing.T) {
	t.Parallel()
	check := func(name string, got any, err error, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	q, err := DecodeQuery(whole('Q', "select 1\x00"))
	check("Query", q, err, Text{"select 1", 8})
	p, err := DecodeParse(whole('P', bodyParse("s", "select $1", 23, 0)))
	check("Parse", p, err, Parse{Statement: "s", Query: Text{"select $1", 9}, Types: []uint32{23, 0}})
	b, err := DecodeBind(whole('B', bodyBind("p", "s", true, "ab", "NULL", "")))
	check("Bind", b, err, Bind{Portal: "p", Statement: "s", Values: []Value{
		{Binary: true, Data: []byte("ab"), Length: 2}, {Null: true, Binary: true, Data: []byte{}}, {Binary: true, Data: []byte{}},
	}})
	b, err = DecodeBind(whole('B', "\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x01y\x00\x00"))
	check("Bind with a format for each", b, err, Bind{Values: []Value{{Data: []byte("x"), Length: 1}, {Binary: true, Data: []byte("y"), Length: 1}}})
	e, err := DecodeExecute(whole('E', bodyExecute("p", 7)))
	check("Execute", e, err, Execute{"p", 7})
	d, err := DecodeTarget(whole('D', "Pp\x00"))
	check("Describe", d, err, Target{true, "p"})
	c, err := DecodeFunctionCall(whole('F', "\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00"))
	check("FunctionCall", c, err, FunctionCall{OID: 9, Args: []Value{{Data: []byte("x"), Length: 1}}})
	for text, rows := range map[string]int64{"SELECT 3": 3, "INSERT 0 5": 5, "CREATE TABLE": -1, "BEGIN": -1, "COPY 0": 0, "X -1": -1, "": -1} {
		check("tag "+text, DecodeCommandTag(whole('C', text+"\x00")), nil, CommandTag{text, rows})
	}
}

func TestDecodeCutBodies(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*Frame{
		"Query": whole('Q', "select 1\x00"), "Parse": whole('P', bodyParse("s", "select $1", 23)), "Bind": whole('B', bodyBind("p", "s", false, "value", "two")),
		"Execute": whole('E', bodyExecute("p", 1)), "FunctionCall": whole('F', "\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00"),
	} {
		decode := func(f *Frame) (truncated bool, err error) {
			switch f.Type {
			case 'Q':
				q, err := DecodeQuery(f)
				return q.Truncated(), err
			case 'P':
				p, err := DecodeParse(f)
				return p.Truncated, err
			case 'B':
				b, err := DecodeBind(f)
				return b.Truncated, err
			case 'F':
				c, err := DecodeFunctionCall(f)
				return c.Truncated, err
			}
			_, err = DecodeExecute(f)
			return true, err
		}
		for n := range len(f.Body) - 2 {
			if truncated, err := decode(cutTo(f, n)); !truncated || err != nil {
				t.Errorf("%s cut to %d bytes: truncated %v, %v", name, n, truncated, err)
			}
			short := cutTo(f, n)
			short.Length = n
			if f.Type == 'B' || f.Type == 'F' {
				short.Length = min(n, len(f.Body)-4) // the result formats are not read
			}
			if _, err := decode(short); n < len(f.Body)-4 && fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s of only %d bytes: %v, want Invalid", name, n, err)
			}
		}
	}
	q, _ := DecodeQuery(cutTo(whole('Q', strings.Repeat("x", 100)+"\x00"), 10))
	if q.Length != 100 || len(q.Value) != 10 {
		t.Errorf("query %+v", q)
	}
	p, _ := DecodeParse(cutTo(whole('P', bodyParse("s", strings.Repeat("x", 100))), 10))
	if p.Query.Length != 100 || p.Statement != "s" {
		t.Errorf("parse %+v", p)
	}
	b, _ := DecodeBind(cutTo(whole('B', bodyBind("", "", false, "1", strings.Repeat("x", 100))), 30))
	if len(b.Values) != 2 || b.Values[1].Length != 100 || len(b.Values[1].Data) == 100 {
		t.Errorf("bind %+v", b)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	if _, err := DecodeBind(whole('B', "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("formats that do not match the values: %v", err)
	}
	if _, err := DecodeBind(whole('B', "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a negative length: %v", err)
	}
	if _, err := DecodeTarget(whole('D', "Xp\x00")); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Describe of an unknown kind: %v", err)
	}
}

func TestReadableValues(t *testing.T) {
	t.Parallel()
	numeric := "\x00\x01\x7f\xff\x00\x00\x00\x00\x00\x01"
	tests := []struct {
		name string
		v    Value
		oid  uint32
		want Argument
	}{
		{"text", Value{Data: []byte("x\xff"), Length: 2}, 0, Argument{Text: "x\uFFFD", Length: 2}},
		{"NULL", Value{Null: true, Binary: true}, 23, Argument{Null: true}},
		{"int4", Value{Binary: true, Data: []byte("\xff\xff\xff\xfe"), Length: 4}, 23, Argument{Text: "-2", Length: 4}},
		{"int4 of a wrong size", Value{Binary: true, Data: []byte("\xff"), Length: 1}, 23, Argument{Text: `\xff::23`, Length: 1}},
		{"unknown type", Value{Binary: true, Data: []byte("abc"), Length: 3}, 99999, Argument{Text: `\x616263::99999`, Length: 3}},
		{"cut", Value{Binary: true, Data: []byte("\x00"), Length: 4}, 23, Argument{Text: `\x00::23`, Length: 4, Truncated: true}},
		{"bool", Value{Binary: true, Data: []byte{1}, Length: 1}, 16, Argument{Text: "t", Length: 1}},
		{"text, binary format", Value{Binary: true, Data: []byte("hi"), Length: 2}, 25, Argument{Text: "hi", Length: 2}},
		{"bytea", Value{Binary: true, Data: []byte("\x00\xff"), Length: 2}, 17, Argument{Text: `\x00ff`, Length: 2}},
		{"huge numeric", Value{Binary: true, Data: []byte(numeric), Length: 10}, 1700, Argument{Text: `\x00017fff000000000001::1700`, Length: 10}},
		{"type not known", Value{Binary: true, Data: []byte("abc"), Length: 3}, 0, Argument{Text: `\x616263::0`, Length: 3}},
		{"text cut in a character", Value{Data: []byte("x\xe2\x82"), Length: 9}, 25, Argument{Text: "x", Length: 9, Truncated: true}},
		{"bytea cut", Value{Binary: true, Data: []byte{1}, Length: 9}, 17, Argument{Text: `\x01`, Length: 9, Truncated: true}},
		{"bool false", Value{Binary: true, Data: []byte{0}, Length: 1}, 16, Argument{Text: "f", Length: 1}},
		{"int2", Value{Binary: true, Data: []byte{0xff, 0xff}, Length: 2}, 21, Argument{Text: "-1", Length: 2}},
		{"int8", Value{Binary: true, Data: []byte("\x00\x00\x00\x01\x00\x00\x00\x00"), Length: 8}, 20, Argument{Text: "4294967296", Length: 8}},
		{"oid", Value{Binary: true, Data: []byte("\xff\xff\xff\xff"), Length: 4}, 26, Argument{Text: "4294967295", Length: 4}},
		{"float4", Value{Binary: true, Data: []byte("\x3d\xcc\xcc\xcd"), Length: 4}, 700, Argument{Text: "0.1", Length: 4}},
		{"float8", Value{Binary: true, Data: []byte("\xc0\x04\x00\x00\x00\x00\x00\x00"), Length: 8}, 701, Argument{Text: "-2.5", Length: 8}},
		{"numeric", Value{Binary: true, Data: []byte("\x00\x02\x00\x00\x40\x00\x00\x02\x00\x01\x13\x88"), Length: 12}, 1700, Argument{Text: "-1.50", Length: 12}},
		{"uuid", Value{Binary: true, Data: []byte("\x7b\x1c\x1f\x1e\x00\x00\x40\x00\x80\x00\x00\x00\x00\x00\x00\x01"), Length: 16}, 2950, Argument{Text: "7b1c1f1e-0000-4000-8000-000000000001", Length: 16}},
		{"date", Value{Binary: true, Data: []byte("\x00\x00\x00\x01"), Length: 4}, 1082, Argument{Text: "2000-01-02", Length: 4}},
		{"time", Value{Binary: true, Data: []byte("\x00\x00\x00\x00\x00\x0f\x42\x41"), Length: 8}, 1083, Argument{Text: "00:00:01.000001", Length: 8}},
		{"timestamp", Value{Binary: true, Data: []byte("\x00\x00\x00\x00\x00\x0f\x42\x40"), Length: 8}, 1114, Argument{Text: "2000-01-01 00:00:01", Length: 8}},
		{"timestamptz", Value{Binary: true, Data: []byte("\x00\x00\x00\x00\x00\x0f\x42\x40"), Length: 8}, 1184, Argument{Text: "2000-01-01 00:00:01Z", Length: 8}},
		{"timestamptz infinity", Value{Binary: true, Data: []byte("\x7f\xff\xff\xff\xff\xff\xff\xff"), Length: 8}, 1184, Argument{Text: "infinity", Length: 8}},
		{"interval", Value{Binary: true, Data: []byte("\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x00\x00\x02\x00\x00\x00\x03"), Length: 16}, 1186, Argument{Text: "3 mon 2 day 00:00:01", Length: 16}},
		{"json", Value{Binary: true, Data: []byte(`{"a":1}`), Length: 7}, 114, Argument{Text: `{"a":1}`, Length: 7}},
		{"jsonb", Value{Binary: true, Data: []byte("\x01[]"), Length: 3}, 3802, Argument{Text: "[]", Length: 3}},
		{"jsonb of another version", Value{Binary: true, Data: []byte("\x02[]"), Length: 3}, 3802, Argument{Text: `\x025b5d::3802`, Length: 3}},
		{
			"text[]",
			Value{Binary: true, Data: []byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x19\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00\x00\x03b,c"), Length: 32},
			1009,
			Argument{Text: `{a,"b,c"}`, Length: 32},
		},
		{
			"int4[]",
			Value{Binary: true, Data: []byte("\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x17\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x07\xff\xff\xff\xff"), Length: 32},
			1007,
			Argument{Text: "{7,NULL}", Length: 32},
		},
	}
	for _, tt := range tests {
		if got := tt.v.readable(tt.oid); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
