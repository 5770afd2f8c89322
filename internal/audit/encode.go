package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
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

// encoder writes events as JSON objects. The log calls it with its lock held, except
// for fields.
type encoder struct {
	cluster []byte // the end of the common fields, ready to be copied
	now     func() time.Time
	clock   clockText
	ids     idText
}

// inPlace is how long the texts of a statement's event may be, in bytes, to be encoded
// where it is queued. Everybody waits for that, so what is longer is encoded before.
const inPlace = 4 << 10

func newEncoder(cluster string, now func() time.Time) (*encoder, error) {
	field, err := json.Marshal(cluster)
	if err != nil {
		return nil, err
	}
	return &encoder{cluster: append([]byte(`,"cluster_name":`), field...), now: now}, nil
}

// fields returns what ev has besides the common fields, each with a comma in front. It
// is nil for a statement of which append writes the fields itself.
func (e *encoder) fields(ev Event) ([]byte, error) {
	if st, ok := ev.(*Statement); ok {
		if size := st.What.shorten(); size > inPlace {
			return st.append(make([]byte, 0, size+size/4)), nil
		}
		return nil, nil
	}
	event, _ := ev.name()
	if event == "" {
		return nil, fmt.Errorf("the audit event %+v has no name", ev)
	}
	object, err := marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", event, err)
	}
	if len(object) == len("{}") {
		return []byte{}, nil
	}
	object[0] = ','
	return object[:len(object)-1], nil
}

// append appends ev as a JSON object that is still open: the chain follows. fields are
// what the method of that name has returned.
func (e *encoder) append(b []byte, ev Event, fields []byte) []byte {
	event, code := ev.name()
	b = append(b, `{"event":"`...)
	b = append(b, event...)
	b = append(b, `","code":"`...)
	b = append(b, code...)
	st, ok := ev.(*Statement)
	if !ok {
		b = e.appendCommon(b, indexOf(ev), time.Time{})
		return append(b, fields...)
	}
	b = e.appendCommon(b, st.Index, st.Time)
	if fields == nil {
		return st.append(b)
	}
	return append(b, fields...)
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
func (e *encoder) appendCommon(b []byte, index int64, at time.Time) []byte {
	if at.IsZero() {
		at = e.now()
	}
	b = append(b, `","time":"`...)
	b = e.clock.append(b, at)
	b = append(b, `","uid":"`...)
	b = e.ids.append(b)
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

// idText makes unique ids. They are no secrets, so not each has to be random: from a
// random one the next are counted.
type idText struct {
	text [36]byte
	left int // how many more are counted from the random one
}

// idsCounted is how many ids there are for each random one.
const idsCounted = 256

// append appends another id, in the form of a UUID (RFC 9562, version 4).
func (u *idText) append(b []byte) []byte {
	if u.left == 0 {
		u.renew()
	} else {
		u.left--
		u.count()
	}
	return append(b, u.text[:]...)
}

// renew makes a random id. The generator is ChaCha8, seeded by the system.
func (u *idText) renew() {
	high, low := rand.Uint64(), rand.Uint64() //nolint:gosec // unique is enough: an id is no secret
	high = high&^0xf000 | 0x4000
	low = low&^(0xc0<<56) | 0x80<<56
	putHex(u.text[0:8], high>>32)
	putHex(u.text[9:13], high>>16)
	putHex(u.text[14:18], high)
	putHex(u.text[19:23], low>>48)
	putHex(u.text[24:36], low)
	for _, i := range []int{8, 13, 18, 23} {
		u.text[i] = '-'
	}
	u.left = idsCounted - 1
}

// count adds one to the last twelve digits.
func (u *idText) count() {
	for i := len(u.text) - 1; u.text[i] != '-'; i-- {
		switch u.text[i] {
		case 'f':
			u.text[i] = '0'
			continue
		case '9':
			u.text[i] = 'a'
		default:
			u.text[i]++
		}
		return
	}
}

// putHex writes the last digits of n, as many as there is room for.
func putHex(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = "0123456789abcdef"[n&0xf]
		n >>= 4
	}
}
