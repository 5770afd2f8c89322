package pgwire

import (
	"math"
	"sync"
	"time"
)

// The backlog. To follow what statements do takes several times as long for a frame by
// itself, with everything else that a gateway does in between, as it does for many in a
// row. So a frame is only checked and kept before it is sent on, and those that wait are
// looked at together, in the order in which they came.

const (
	// maxKept bounds how many frames wait, maxKeptBytes what their bodies have together.
	// Whoever brings more looks at them first.
	maxKept      = 1024
	maxKeptBytes = 32 << 10
	// maxKeptBody bounds the body of one. A larger one is looked at before it is sent on.
	maxKeptBody = 4 << 10
)

// backlog holds frames in the order in which they came.
type backlog struct {
	mu     sync.Mutex // guards the fields below
	room   *frameRoom // of frameRooms; nil while nothing waits
	copied [2]int64   // copy data moved before the last frame
	err    error      // of a frame that was looked at: no other is let through
}

// frameRoom is where frames wait.
type frameRoom struct {
	begin  time.Time // of the first one
	frames []keptFrame
	bodies []byte // one after the other
	moves  []move
}

// keptFrame is a [Frame] in twelve bytes. What is written here is mostly not in the cache
// of the processor, and read by another one.
type keptFrame struct {
	typ    byte
	dir    uint8
	end    uint16 // of its body, in bodies
	length uint32
	at     int32 // µs since begin
}

// move says how much copy data had been moved in all when a frame came, and more than
// when the one before it did.
type move struct {
	frame  int // its index
	copied [2]int64
}

// frameRooms holds empty rooms: a session that waits needs none.
var frameRooms = sync.Pool{New: func() any {
	return &frameRoom{frames: make([]keptFrame, 0, 64), bodies: make([]byte, 0, 1<<10)}
}}

// keep lets a frame through that is to be looked at later. What is too large to wait is
// looked at before, and so is all that came earlier.
func (s *Statements) keep(f *Frame) error {
	if f.Direction == ToServer {
		if err := f.check(); err != nil {
			s.Look()
			if s.cfg.Malformed != nil {
				s.cfg.Malformed(err)
			}
			return err
		}
	}
	b := &s.backlog
	b.mu.Lock()
	if b.err != nil {
		defer b.mu.Unlock()
		return b.err
	}
	first, few := b.room == nil, b.few()
	kept := b.add(f, s.moved())
	many := few && !b.few()
	b.mu.Unlock()
	switch {
	case !kept:
		return s.lookAtOnce(f)
	case first:
		s.cfg.Kept(false)
	case many:
		s.cfg.Kept(true)
	}
	return nil
}

// few reports whether less than three quarters of what may wait do. b.mu is held.
func (b *backlog) few() bool {
	return b.room == nil || len(b.room.frames) < maxKept*3/4 && len(b.room.bodies) < maxKeptBytes*3/4
}

// add adds f unless there is no room for it. b.mu is held.
func (b *backlog) add(f *Frame, copied [2]int64) bool {
	if len(f.Body) > maxKeptBody || f.Digest != nil {
		return false
	}
	if b.room == nil {
		b.room = frameRooms.Get().(*frameRoom)
		b.room.begin = f.At
	}
	r := b.room
	if len(r.frames) == maxKept || len(r.bodies)+len(f.Body) > maxKeptBytes {
		return false
	}
	if copied != b.copied {
		b.copied = copied
		r.moves = append(r.moves, move{len(r.frames), copied})
	}
	r.bodies = append(r.bodies, f.Body...)
	r.frames = append(r.frames, keptFrame{
		typ: f.Type, dir: uint8(f.Direction), end: uint16(len(r.bodies)), length: uint32(f.Length),
		at: int32(min(f.At.Sub(r.begin)/time.Microsecond, math.MaxInt32)),
	})
	return true
}

// take returns what waits, or nil.
func (b *backlog) take() *frameRoom {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.room
	b.room = nil
	return r
}

// Refuse ends the session with err at its next frame; the first error counts.
func (s *Statements) Refuse(err error) {
	b := &s.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

// Look looks at the frames that wait. At an error it stops, and the session ends at its
// next frame.
func (s *Statements) Look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.leaveScratch()
	_ = s.lookAll() // the next frame gets it
}

// lookAtOnce looks at f, and at all that came before.
func (s *Statements) lookAtOnce(f *Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.leaveScratch()
	if err := s.lookAll(); err != nil {
		return err
	}
	return s.look(f, s.moved())
}

// lookAll looks at the frames that wait. s.mu is held, so that whoever comes next looks
// at later ones.
func (s *Statements) lookAll() (err error) {
	r := s.backlog.take()
	if r == nil {
		return nil
	}
	start, moves, copied := uint16(0), r.moves, s.copied
	for i, k := range r.frames {
		if len(moves) > 0 && moves[0].frame == i {
			copied, moves = moves[0].copied, moves[1:]
		}
		f := Frame{
			Direction: Direction(k.dir), Type: k.typ, Length: int(k.length), Body: r.bodies[start:k.end:k.end],
			At: r.begin.Add(time.Duration(k.at) * time.Microsecond),
		}
		start = k.end
		if err = s.look(&f, copied); err != nil {
			s.Refuse(err)
			break
		}
	}
	r.frames, r.bodies, r.moves = r.frames[:0], r.bodies[:0], r.moves[:0]
	frameRooms.Put(r)
	return err
}
