package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// timeFormat is RFC 3339 with milliseconds, always in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Time is a point in time as events write it. The zero value is written as null.
type Time struct{ time.Time }

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return append(appendTime([]byte{'"'}, t.Time), '"'), nil
}

// appendTime appends t in timeFormat. It does what [time.Time.AppendFormat] does with
// that, in a fifth of the time: every event has one.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond()/int(time.Millisecond), 3)
	return append(b, 'Z')
}

// appendDigits appends the last n digits of a number that is not negative.
func appendDigits(b []byte, number, n int) []byte {
	b = append(b, "0000"[:n]...)
	for i := len(b) - 1; n > 0; i-- {
		b[i] += byte(number % 10)
		number /= 10
		n--
	}
	return b
}

// maxLine bounds a line of the log, for writer and readers. The longest
// statement that is kept fits even if every byte of it is escaped.
const maxLine = 8 << 20

// encoder turns events into JSON objects. It is safe for concurrent use.
type encoder struct {
	cluster []byte // the end of the common fields, ready to be copied
	now     func() time.Time
	rooms   sync.Pool // of *encodeRoom
}

// encodeRoom is where one event at a time is encoded.
type encodeRoom struct {
	object []byte
	clock  clockText
}

func newEncoder(cluster string, now func() time.Time) (*encoder, error) {
	field, err := json.Marshal(cluster)
	if err != nil {
		return nil, err
	}
	return &encoder{
		cluster: append([]byte(`,"cluster_name":`), field...),
		now:     now,
		rooms:   sync.Pool{New: func() any { return new(encodeRoom) }},
	}, nil
}

// encode writes ev as one JSON object, without chain fields, which is valid as long as
// the room is not used for another.
func (e *encoder) encode(room *encodeRoom, ev Event) ([]byte, error) {
	event, code := ev.name()
	if event == "" {
		return nil, fmt.Errorf("the audit event %+v has no name", ev)
	}
	b := append(room.object[:0], `{"event":"`...)
	b = append(b, event...)
	b = append(b, `","code":"`...)
	b = append(b, code...)
	if st, ok := ev.(*Statement); ok {
		b = e.appendCommon(room, b, st.Index, st.Time)
		b = st.append(b)
	} else {
		fields, err := marshal(ev)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", event, err)
		}
		b = e.appendCommon(room, b, indexOf(ev), time.Time{})
		if len(fields) > len("{}") {
			b = append(b, ',')
		}
		b = append(b, fields[1:len(fields)-1]...)
	}
	b = append(b, '}')
	room.object = b
	if len(b) > maxLine-chainSize {
		return nil, fault.Newf(fault.Invalid, "the audit event %s is larger than %d bytes", event, maxLine)
	}
	return b, nil
}

// indexOf returns the place of an event in its session, 0 if it is of none.
func indexOf(ev Event) int64 {
	if s, ok := ev.(interface{ index() int64 }); ok {
		return s.index()
	}
	return 0
}

// marshal encodes v as events are encoded.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode audit event: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// appendCommon appends the common fields that stand behind the code. at is zero for now.
func (e *encoder) appendCommon(room *encodeRoom, b []byte, index int64, at time.Time) []byte {
	if at.IsZero() {
		at = e.now()
	}
	b = append(b, `","time":"`...)
	b = room.clock.append(b, at)
	b = append(b, `","uid":"`...)
	b = appendUID(b)
	b = append(b, `","ei":`...)
	b = strconv.AppendInt(b, index, 10)
	return append(b, e.cluster...)
}

// clockText is the text of the second that was written last. The next event is mostly
// of the same.
type clockText struct {
	second int64
	text   []byte // up to the point
}

// append appends t as appendTime does.
func (c *clockText) append(b []byte, t time.Time) []byte {
	if second := t.Unix(); second != c.second || c.text == nil {
		c.text = appendTime(c.text[:0], t)
		c.second, c.text = second, c.text[:len(c.text)-len("000Z")]
	}
	b = append(b, c.text...)
	return append(appendDigits(b, t.Nanosecond()/int(time.Millisecond), 3), 'Z')
}

// appendUID appends a random UUID (RFC 9562, version 4). It is unique, and no secret: the
// generator is ChaCha8, seeded by the system.
func appendUID(b []byte) []byte {
	var u [36]byte
	high, low := rand.Uint64(), rand.Uint64() //nolint:gosec // unique is enough: an id is no secret
	high = high&^0xf000 | 0x4000
	low = low&^(0xc0<<56) | 0x80<<56
	putHex(u[0:8], high>>32)
	u[8] = '-'
	putHex(u[9:13], high>>16)
	u[13] = '-'
	putHex(u[14:18], high)
	u[18] = '-'
	putHex(u[19:23], low>>48)
	u[23] = '-'
	putHex(u[24:36], low)
	return append(b, u[:]...)
}

// putHex writes the last digits of n, as many as there is room for.
func putHex(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = "0123456789abcdef"[n&0xf]
		n >>= 4
	}
}
