package pgwire

import (
	"bytes"
	"strconv"

	"github.com/postern-db/postern/internal/fault"
)

// The decoders below read the bodies that an observer was shown. A body may be
// only the beginning of the real one: what is missing is then cut off, which the
// results say, and never an error. A body that is complete and still does not
// hold what it must is [fault.Invalid].

// Text is a text that may have been cut.
type Text struct {
	Value string
	// Length is the size of the whole text in bytes. Where more fields follow a text
	// that was cut, it is the most that the text can have had.
	Length int
}

// Truncated reports whether Value is only the beginning.
func (t Text) Truncated() bool { return len(t.Value) < t.Length }

// Parse is the request to prepare a statement.
type Parse struct {
	Statement string // empty for the unnamed one
	Query     Text
	Types     []uint32 // OIDs of the parameters' types; zero where left to the server
	Truncated bool
}

// Bind is the request to make a portal of a statement and values.
type Bind struct {
	Portal, Statement string
	Values            []Value
	Truncated         bool // values are missing or cut
}

// Value is an argument as sent.
type Value struct {
	Null   bool
	Binary bool
	Data   []byte // may be cut; belongs to the body
	Length int    // of the whole value
}

// Execute is the request to run a portal.
type Execute struct {
	Portal  string
	MaxRows uint32 // zero means all
}

// Target is what Describe and Close name.
type Target struct {
	Portal bool // otherwise a statement
	Name   string
}

// FunctionCall is the old fast path to call a function by its OID.
type FunctionCall struct {
	OID       uint32
	Args      []Value
	Truncated bool
}

// CommandTag is what a completed statement reports.
type CommandTag struct {
	Text string
	Rows int64 // -1 where the command counts none
}

func malformedFrame(f *Frame) error {
	return fault.Newf(fault.Invalid, "invalid message of type %q", f.Type)
}

// whole reports whether f has its complete body.
func (f *Frame) whole() bool { return len(f.Body) >= f.Length }

// check returns the error that the decoder of a request would, and decodes nothing.
func (f *Frame) check() error {
	c := cursor{rest: f.Body}
	ok := true
	switch f.Type {
	case 'Q':
		c.cstring()
	case 'P':
		c.cstring()
		c.cstring()
		c.take(4 * int(c.uint16()))
	case 'B':
		c.cstring()
		c.cstring()
		ok = c.skipValues()
	case 'E':
		c.cstring()
		c.uint32()
	case 'D', 'C':
		kind := c.byte()
		c.cstring()
		ok = kind == 'P' || kind == 'S'
	case 'F':
		c.uint32()
		ok = c.skipValues()
	}
	if !ok || c.short && f.whole() {
		return malformedFrame(f)
	}
	return nil
}

// DecodeQuery decodes a simple Query.
func DecodeQuery(f *Frame) (Text, error) {
	c := cursor{rest: f.Body}
	text := string(c.cstring())
	if !c.short {
		return Text{text, len(text)}, nil
	}
	if f.whole() {
		return Text{}, malformedFrame(f)
	}
	return Text{text, f.Length - 1}, nil
}

// DecodeParse decodes Parse.
func DecodeParse(f *Frame) (Parse, error) {
	c := cursor{rest: f.Body}
	p := Parse{Statement: string(c.cstring())}
	start := len(f.Body) - len(c.rest)
	p.Query.Value = string(c.cstring())
	p.Query.Length = len(p.Query.Value)
	if c.short {
		// Behind the text are its terminator and at least a count.
		p.Query.Length = max(f.Length-start-3, p.Query.Length)
	}
	n := int(c.uint16())
	for range min(n, len(c.rest)/4) {
		p.Types = append(p.Types, c.uint32())
	}
	p.Truncated = c.short || len(p.Types) < n
	if p.Truncated && f.whole() {
		return Parse{}, malformedFrame(f)
	}
	return p, nil
}

// DecodeBind decodes Bind up to its values.
func DecodeBind(f *Frame) (Bind, error) { return decodeBind(f, nil) }

// decodeBind appends the values to a list, which becomes that of the result.
func decodeBind(f *Frame, values []Value) (Bind, error) {
	c := cursor{rest: f.Body}
	b := Bind{Portal: string(c.cstring()), Statement: string(c.cstring())}
	var ok bool
	b.Values, ok = c.values(values)
	b.Truncated = c.short
	if !ok || c.short && f.whole() {
		return Bind{}, malformedFrame(f)
	}
	return b, nil
}

// values reads format codes and then values, as Bind and FunctionCall have them, and
// appends the values to a list: no format code means text, one is for all, otherwise
// there is one for each. It keeps the value in which the body ends. ok is false for
// counts that contradict each other.
func (c *cursor) values(to []Value) (values []Value, ok bool) {
	values = to
	formats := make([]byte, 0, 8)
	for n := int(c.uint16()); n > 0 && !c.short; n-- {
		formats = append(formats, byte(min(c.uint16(), 2)))
	}
	n := int(c.uint16())
	if c.short {
		return values, true
	}
	if len(formats) > 1 && len(formats) != n {
		return values, false
	}
	for i := 0; i < n && !c.short; i++ {
		size := int32(c.uint32())
		if c.short {
			break
		}
		v := Value{Null: size == -1, Length: max(int(size), 0)}
		switch {
		case size < -1:
			return values, false
		case len(formats) == 1:
			v.Binary = formats[0] != 0
		case len(formats) > 1:
			v.Binary = formats[i] != 0
		}
		v.Data = c.rest[:min(v.Length, len(c.rest))]
		c.take(v.Length)
		values = append(values, v)
	}
	return values, true
}

// skipValues goes over what values reads, and has the same objections.
func (c *cursor) skipValues() (ok bool) {
	formats := int(c.uint16())
	c.take(2 * formats)
	n := int(c.uint16())
	if c.short {
		return true
	}
	if formats > 1 && formats != n {
		return false
	}
	for ; n > 0 && !c.short; n-- {
		size := int32(c.uint32())
		if size < -1 {
			return false
		}
		c.take(max(int(size), 0))
	}
	return true
}

// DecodeExecute decodes Execute.
func DecodeExecute(f *Frame) (Execute, error) {
	c := cursor{rest: f.Body}
	e := Execute{Portal: string(c.cstring()), MaxRows: c.uint32()}
	if c.short && f.whole() {
		return Execute{}, malformedFrame(f)
	}
	return e, nil
}

// DecodeTarget decodes Describe and Close.
func DecodeTarget(f *Frame) (Target, error) {
	c := cursor{rest: f.Body}
	kind := c.byte()
	t := Target{Portal: kind == 'P', Name: string(c.cstring())}
	if kind != 'P' && kind != 'S' || c.short && f.whole() {
		return Target{}, malformedFrame(f)
	}
	return t, nil
}

// DecodeFunctionCall decodes FunctionCall.
func DecodeFunctionCall(f *Frame) (FunctionCall, error) {
	c := cursor{rest: f.Body}
	call := FunctionCall{OID: c.uint32()}
	var ok bool
	call.Args, ok = c.values(nil)
	call.Truncated = c.short
	if !ok || c.short && f.whole() {
		return FunctionCall{}, malformedFrame(f)
	}
	return call, nil
}

// DecodeCommandTag decodes CommandComplete. The last word of the tag is the number
// of rows, for the commands that count any.
func DecodeCommandTag(f *Frame) CommandTag {
	c := cursor{rest: f.Body}
	text := c.cstring()
	tag := CommandTag{Text: string(text), Rows: -1}
	if i := bytes.LastIndexByte(text, ' '); i >= 0 {
		if rows, err := strconv.ParseInt(string(text[i+1:]), 10, 64); err == nil && rows >= 0 {
			tag.Rows = rows
		}
	}
	return tag
}

// DecodeTypes decodes ParameterDescription.
func DecodeTypes(f *Frame) []uint32 {
	c := cursor{rest: f.Body}
	n := int(c.uint16())
	types := make([]uint32, 0, min(n, len(c.rest)/4))
	for range cap(types) {
		types = append(types, c.uint32())
	}
	return types
}
