package pgwire

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// headerSize is the size of a frame's header: type and length.
const headerSize = 5

// Direction tells where a frame is going.
type Direction int

// The two directions.
const (
	ToServer Direction = iota // sent by the client
	ToClient                  // sent by the server
)

func (d Direction) String() string {
	if d == ToServer {
		return "to server"
	}
	return "to client"
}

// TypeSet is a set of message types.
type TypeSet [4]uint64

// Types returns the set of the types named by the bytes of s.
func Types(s string) TypeSet {
	var t TypeSet
	for i := range len(s) {
		t[s[i]>>6] |= 1 << (s[i] & 63)
	}
	return t
}

// Has reports whether typ is in the set.
func (t *TypeSet) Has(typ byte) bool { return t[typ>>6]&(1<<(typ&63)) != 0 }

// Frame is what an observer sees of one frame. It is valid until the observer returns.
type Frame struct {
	Direction Direction
	Type      byte
	// Length is the size of the whole body.
	Length int
	// Body is the body or its beginning, up to the limit of [Observe]; it is nil for
	// types that are only counted.
	Body []byte
	// Digest is the SHA-256 of what a Query or Parse holds of SQL, of the whole body
	// for other types. It is nil unless [Observe] asks for it and the body is longer
	// than its limit.
	Digest []byte
	// At is when it was looked at first, which is when the last of what is shown was
	// read. Frames that were read together have the same.
	At time.Time
}

// Observe says which frames are shown to whom.
type Observe struct {
	// Bodies are the types whose body is wanted, Headers those of which type and
	// length are enough, each by [Direction].
	Bodies, Headers [2]TypeSet
	// Counted are the types that are not shown, only added up in Sizes: bytes of their
	// bodies, each by [Direction].
	Counted [2]TypeSet
	Sizes   *[2]atomic.Int64
	// Digest asks for the SHA-256 of what clients send beyond Limit. Such a frame is
	// then shown at its end.
	Digest bool
	// Limit is how much of a body is collected; zero means 16 KiB. What is longer
	// passes all the same.
	Limit int
	// Frame is called from two goroutines, one for each direction, before the end of
	// the frame (or, for a longer one, of its collected part) is sent on. A server
	// therefore has not acted on a request when it is shown. An error ends the
	// session before the frame is sent: fail closed. Nil observes nothing.
	Frame func(*Frame) error
}

const defaultObserveLimit = 16 << 10

// scanner finds the frames in one direction of a byte stream. It sees every
// header and copies nothing but what an observer wants of a body that arrives in
// pieces.
type scanner struct {
	observe *Observe
	dir     Direction

	head  [headerSize]byte // header in progress
	nhead int
	size  int64 // of the current body
	left  int64 // bytes of it still to come
	typ   byte  // of the current frame, then of the last one

	// A body that arrives in pieces is collected here until complete.
	need   int     // size that makes it complete
	pieces *[]byte // pooled, nil unless in use
	digest *digest // of a body beyond the limit; nil unless asked for

	frames int64
	at     time.Time // of the current scan; zero until a frame of it is shown
	shown  Frame     // the last one
}

// collectPool holds the buffers for bodies that arrive in pieces.
var collectPool = sync.Pool{New: func() any { return new([]byte) }}

// scan takes the next bytes of the stream. It returns where in them the last
// complete frame ends, or -1 if none ends there.
func (s *scanner) scan(data []byte) (boundary int, err error) {
	boundary = -1
	s.at = time.Time{}
	for at := 0; at < len(data); {
		if s.left > 0 {
			n := int(min(s.left, int64(len(data)-at)))
			if s.pieces != nil {
				if err := s.collect(data[at : at+n]); err != nil {
					return boundary, err
				}
			}
			s.left -= int64(n)
			at += n
			if s.left == 0 {
				boundary = at
			}
			continue
		}
		var typ byte
		var length uint32
		if rest := data[at:]; s.nhead == 0 && len(rest) >= headerSize {
			typ, length = rest[0], binary.BigEndian.Uint32(rest[1:])
			at += headerSize
		} else {
			n := copy(s.head[s.nhead:], rest)
			s.nhead += n
			at += n
			if s.nhead < headerSize {
				return boundary, nil
			}
			s.nhead = 0
			typ, length = s.head[0], binary.BigEndian.Uint32(s.head[1:])
		}
		if length < 4 || length > 1<<31-1 {
			return boundary, fault.Newf(fault.Invalid, "invalid message length %d of message type %q", int32(length), typ)
		}
		s.typ, s.size = typ, int64(length)-4
		s.left = s.size
		if s.left == 0 {
			boundary = at
		}
		s.frames++
		if s.observe != nil {
			if err := s.begin(data[at:]); err != nil {
				return boundary, err
			}
		}
	}
	return boundary, nil
}

// atBoundary reports whether the stream stands between two frames.
func (s *scanner) atBoundary() bool { return s.left == 0 && s.nhead == 0 }

// begin shows a frame whose header was just read, at once if what is wanted of it
// is there, otherwise when collect has it.
func (s *scanner) begin(rest []byte) error {
	o := s.observe
	if !o.Bodies[s.dir].Has(s.typ) {
		switch {
		case o.Headers[s.dir].Has(s.typ):
			return s.show(nil)
		case o.Counted[s.dir].Has(s.typ):
			o.Sizes[s.dir].Add(s.size)
		}
		return nil
	}
	s.need = int(min(s.size, int64(o.Limit)))
	switch {
	case o.Digest && s.dir == ToServer && s.size > int64(o.Limit):
		s.digest = newDigest(s.typ)
	case len(rest) >= s.need:
		return s.show(rest[:s.need:s.need])
	}
	s.pieces = collectPool.Get().(*[]byte)
	return nil
}

// collect adds a piece of the current body and shows the frame when what is wanted
// of it is complete.
func (s *scanner) collect(piece []byte) error {
	missing := s.need - len(*s.pieces)
	*s.pieces = append(*s.pieces, piece[:min(len(piece), missing)]...)
	if s.digest != nil {
		s.digest.add(piece)
		if s.left > int64(len(piece)) {
			return nil
		}
	}
	if len(*s.pieces) < s.need {
		return nil
	}
	err := s.show(*s.pieces)
	s.release()
	return err
}

func (s *scanner) show(body []byte) error {
	if s.at.IsZero() {
		s.at = time.Now() // once for all frames that were read together
	}
	s.shown = Frame{Direction: s.dir, Type: s.typ, Length: int(s.size), Body: body, Digest: s.digest.sum(), At: s.at}
	err := s.observe.Frame(&s.shown)
	s.shown.Body, s.shown.Digest = nil, nil // the buffer is another's soon
	return err
}

// release gives the collecting buffer back.
func (s *scanner) release() {
	s.digest = nil
	if s.pieces == nil {
		return
	}
	*s.pieces = (*s.pieces)[:0]
	collectPool.Put(s.pieces)
	s.pieces = nil
}
