package pgwire

import (
	"encoding/base64"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"
)

// Argument is a value bound to a statement, in readable form.
type Argument struct {
	Null bool
	// Text is the value as PostgreSQL would show it, or its bytes in base64.
	Text string
	// Base64 is set for a binary value of a type that is not known, and for one that
	// was cut: half a number is not a number.
	Base64 bool
	// Length is the size of the value as sent.
	Length    int
	Truncated bool
}

// typeMaps holds pgtype maps: one is not safe for concurrent use, and to make one
// for each session would cost more than the session.
var typeMaps = sync.Pool{New: func() any { return pgtype.NewMap() }}

// readable turns values into text. types are the OIDs of the parameters as far as
// they are known; zero and missing ones are not.
func readable(values []Value, types []uint32) []Argument {
	args := make([]Argument, len(values))
	for i, v := range values {
		var oid uint32
		if i < len(types) {
			oid = types[i]
		}
		args[i] = v.readable(oid)
	}
	return args
}

func (v Value) readable(oid uint32) Argument {
	a := Argument{Null: v.Null, Length: v.Length, Truncated: len(v.Data) < v.Length}
	switch {
	case v.Null:
	case !v.Binary:
		a.Text = strings.ToValidUTF8(string(v.Data), "\uFFFD")
	default:
		text, ok := "", false
		if !a.Truncated {
			text, ok = decodeBinary(oid, v.Data)
		}
		if a.Text, a.Base64 = text, !ok; !ok {
			a.Text = base64.StdEncoding.EncodeToString(v.Data)
		}
	}
	return a
}

// maxReadable bounds the text of a binary value of n bytes: eight bytes of numeric
// can stand for 130,000 digits, and a client can send many of them.
func maxReadable(n int) int { return 400 + 16*n }

// decodeBinary turns a binary value of a built-in type into the text form of that
// type. ok is false for other types, and for data that is not of the type.
func decodeBinary(oid uint32, data []byte) (text string, ok bool) {
	m := typeMaps.Get().(*pgtype.Map)
	defer typeMaps.Put(m)
	t, known := m.TypeForOID(oid)
	if !known || !t.Codec.FormatSupported(pgtype.TextFormatCode) || !t.Codec.FormatSupported(pgtype.BinaryFormatCode) {
		return "", false
	}
	value, err := t.Codec.DecodeValue(m, oid, pgtype.BinaryFormatCode, data)
	if err != nil || value == nil {
		return "", false
	}
	encoded, err := m.Encode(oid, pgtype.TextFormatCode, value, nil)
	if err != nil || encoded == nil || len(encoded) > maxReadable(len(data)) {
		return "", false
	}
	return strings.ToValidUTF8(string(encoded), "\uFFFD"), true
}
