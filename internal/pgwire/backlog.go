package pgwire

import (
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
	maxKept      = 512
	maxKeptBytes = 32 << 10
	// maxKeptBody bounds the body of one. A larger one is looked at before it is sent on.
	maxKeptBody = 4 << 10
)

// backlog holds frames in the order in which they came.
type backlog struct {
	mu   sync.Mutex // guards the fields below
	room *frameRoom // of frameRooms; nil while nothing waits
	err  error      // of a frame that was looked at: no other is let through
}

// frameRoom is where frames wait.
type frameRoom struct {
	begin  time.Time // of the first one
	frames []keptFrame
	bodies []byte // one after the other
}

// keptFrame is a [Frame] without pointers: there are many, and nobody has to follow them.
type keptFrame struct {
	dir    Direction
	typ    byte
	length int
	end    int           // of its body, in bodies
	at     time.Duration // since begin
	copied [2]int64      // copy data moved before it
}

// frameRooms holds empty rooms: a session that waits needs none.
var frameRooms = sync.Pool{New: func() any {
	return &frameRoom{frames: make([]keptFrame, 0, 32), bodies: make([]byte, 0, 1<<10)}
}}

// keep lets a frame through that is to be looked at later. What is too large to wait is
// looked at before, and so is all that came earlier.
func (s *Statements) keep(f *Frame) error {
	if f.Direction == ToServer {
		if err := f.check(); err != nil {
			s.Look()
			return err
		}
	}
	b := &s.backlog
	b.mu.Lock()
	if b.err != nil {
		defer b.mu.Unlock()
		return b.err
	}
	first := b.room == nil
	kept := b.add(f, s.moved())
	b.mu.Unlock()
	switch {
	case !kept:
		return s.lookAtOnce(f)
	case first:
		s.cfg.Kept()
	}
	return nil
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
	r.bodies = append(r.bodies, f.Body...)
	r.frames = append(r.frames, keptFrame{
		dir: f.Direction, typ: f.Type, length: f.Length, end: len(r.bodies), at: f.At.Sub(r.begin), copied: copied,
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
	start := 0
	for i := range r.frames {
		k := &r.frames[i]
		f := Frame{Direction: k.dir, Type: k.typ, Length: k.length, Body: r.bodies[start:k.end:k.end], At: r.begin.Add(k.at)}
		start = k.end
		if err = s.look(&f, k.copied); err != nil {
			s.Refuse(err)
			break
		}
	}
	r.frames, r.bodies = r.frames[:0], r.bodies[:0]
	frameRooms.Put(r)
	return err
}
