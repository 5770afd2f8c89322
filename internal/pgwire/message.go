package pgwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// A Param is one name and value of a StartupMessage or a ParameterStatus.
type Param struct{ Name, Value string }

// begin appends the header of a message of type typ. The position it returns
// goes to finish, which fills in the length.
func begin(dst []byte, typ byte) ([]byte, int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst) + 1
}

func finish(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// appendCString appends s and its terminator. A NUL inside s would end the field
// early and let the rest be read as something else, so it is dropped.
func appendCString(dst []byte, s string) []byte {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return append(append(dst, s...), 0)
}

// readMessage reads one message whose body is at most limit bytes. It reads
// exactly that message and nothing behind it. The body uses the space of buf.
func readMessage(r io.Reader, buf []byte, limit int) (typ byte, body []byte, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[1:])) - 4
	if size < 0 || size > int64(limit) {
		return 0, nil, fault.Newf(fault.Invalid, "message of type %q announces %d bytes", head[0], size)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	body = buf[:size]
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("read message of type %q: %w", head[0], noEOF(err))
	}
	return head[0], body, nil
}

// noEOF makes an end inside a message an error of its own: io.EOF means that
// the peer ended at a message boundary.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // io readers return it unwrapped
		return io.ErrUnexpectedEOF
	}
	return err
}

// A cursor reads fields from a message body that may be cut short. The first
// read past the end sets short, and every read after that returns zero values.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n < 0 || n > len(c.rest) {
		c.short = true
		return nil
	}
	field := c.rest[:n]
	c.rest = c.rest[n:]
	return field
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// cstring returns the text before the next terminator. Without one it returns
// all that is left and sets short.
func (c *cursor) cstring() []byte {
	field, rest, ended := bytes.Cut(c.rest, []byte{0})
	c.rest = rest
	if !ended {
		c.short = true
	}
	return field
}
