package pgwire

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// maxValue is how much is shown of one value, in bytes as sent.
const maxValue = 16 << 10

// Argument is a value bound to a statement, in readable form.
type Argument struct {
	Null bool
	// Text is the value as PostgreSQL would show it. A binary value that cannot be
	// shown so is written as its bytes in hex with the OID of its type, which is 0
	// where that is not known: \x00ff::16400.
	Text string
	// Length is the size of the value as sent, in bytes.
	Length    int
	Truncated bool
}

// typeMaps holds pgtype maps: one is not safe for concurrent use, and to make one
// for each session would cost more than the session.
var typeMaps = sync.Pool{New: func() any { return pgtype.NewMap() }}

// readable appends values as text to args. types are the OIDs of the parameters as far
// as they are known; zero and missing ones are not.
func readable(args []Argument, values []Value, types []uint32) []Argument {
	for i := range values {
		var oid uint32
		if i < len(types) {
			oid = types[i]
		}
		args = append(args, values[i].readable(oid))
	}
	return args
}

func (v *Value) readable(oid uint32) Argument {
	data := v.Data[:min(len(v.Data), maxValue)]
	a := Argument{Null: v.Null, Length: v.Length, Truncated: len(data) < v.Length}
	switch {
	case v.Null:
	case !v.Binary:
		a.Text = validText(data, a.Truncated)
	default:
		text, ok := decodeBinary(oid, data, a.Truncated)
		if !ok {
			text = `\x` + hex.EncodeToString(data) + "::" + strconv.FormatUint(uint64(oid), 10)
		}
		a.Text = text
	}
	return a
}

// validText makes text of bytes. The end of a text that was cut may be the beginning
// of a character, which goes.
func validText(data []byte, cut bool) string {
	if cut {
		for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
			if c := data[len(data)-n]; utf8.RuneStart(c) {
				if !utf8.FullRune(data[len(data)-n:]) {
					data = data[:len(data)-n]
				}
				break
			}
		}
	}
	return validString(string(data))
}

// validString is [strings.ToValidUTF8], which takes ten times as long to find that
// nothing is to be done.
func validString(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// decodeBinary turns a binary value of a built-in type into the text form of that
// type. ok is false for other types, for data that is not of the type, and for one
// that was cut, if its beginning says nothing: half a number is not a number.
func decodeBinary(oid uint32, data []byte, cut bool) (text string, ok bool) {
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.JSONOID, pgtype.XMLOID, pgtype.UnknownOID:
		return validText(data, cut), true
	case pgtype.ByteaOID:
		return `\x` + hex.EncodeToString(data), true
	case pgtype.JSONBOID:
		if len(data) > 0 && data[0] == 1 { // the version of the format
			return validText(data[1:], cut), true
		}
		return "", false
	}
	if cut {
		return "", false
	}
	if text, ok := decodeNumber(oid, data); ok {
		return text, true
	}
	return decodeCodec(oid, data)
}

// decodeNumber decodes the types that most values have, without the cost of a codec.
func decodeNumber(oid uint32, data []byte) (text string, ok bool) {
	switch {
	case oid == pgtype.BoolOID && len(data) == 1:
		if data[0] == 0 {
			return "f", true
		}
		return "t", true
	case oid == pgtype.Int2OID && len(data) == 2:
		return strconv.Itoa(int(int16(binary.BigEndian.Uint16(data)))), true
	case oid == pgtype.Int4OID && len(data) == 4:
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(data)))), true
	case oid == pgtype.OIDOID && len(data) == 4:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(data)), 10), true
	case oid == pgtype.Int8OID && len(data) == 8:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(data)), 10), true
	case oid == pgtype.Float4OID && len(data) == 4:
		return strconv.FormatFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(data))), 'g', -1, 32), true
	case oid == pgtype.Float8OID && len(data) == 8:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(data)), 'g', -1, 64), true
	}
	return "", false
}

// maxReadable bounds the text of a binary value of n bytes: eight bytes of numeric
// can stand for 130,000 digits, and a client can send many of them.
func maxReadable(n int) int { return 400 + 16*n }

// decodeCodec decodes what pgtype knows: numeric, dates and times, uuid, networks,
// ranges, and arrays of them all.
func decodeCodec(oid uint32, data []byte) (text string, ok bool) {
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
	return validString(string(encoded)), true
}

// argumentTypes returns the types of the arguments of the functions that libpq calls
// by their OID: those of large objects. Nobody else uses function calls.
func argumentTypes(function uint32) []uint32 {
	const oid, i4, i8 = pgtype.OIDOID, pgtype.Int4OID, pgtype.Int8OID
	switch function {
	case 715, 964: // lo_create, lo_unlink
		return []uint32{oid}
	case 952: // lo_open
		return []uint32{oid, i4}
	case 953, 957, 958, 3171: // lo_close, lo_creat, lo_tell, lo_tell64
		return []uint32{i4}
	case 954, 1004: // loread, lo_truncate
		return []uint32{i4, i4}
	case 955: // lowrite
		return []uint32{i4, pgtype.ByteaOID}
	case 956: // lo_lseek
		return []uint32{i4, i4, i4}
	case 3170: // lo_lseek64
		return []uint32{i4, i8, i4}
	case 3172: // lo_truncate64
		return []uint32{i4, i8}
	}
	return nil
}
