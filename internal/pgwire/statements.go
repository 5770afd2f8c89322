package pgwire

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultMaxText = 16 << 10

	// maxHeld bounds what is kept of one session: requests without an answer yet, and
	// the names of prepared statements and portals. It is far above what drivers
	// pipeline.
	maxHeld = 4 << 20
	// requestCost is counted for each request on top of its names.
	requestCost = 400
)

// StatementsConfig says what becomes of statements. Request, Record and Secret are called
// one at a time, by whoever passes a frame or looks at those that wait; they must not call
// the [Statements]. An error of theirs ends the session before the next frame is sent on.
type StatementsConfig struct {
	// Kept is told that frames begin to wait until [Statements.Look], and, with many, that
	// there is not much room for more. Nil: none waits, each is looked at before it is sent on.
	Kept func(many bool)
	// Malformed is told of a request that cannot be decoded, where frames wait: when what
	// came before it was looked at.
	Malformed func(error)
	// Request gets each request, and returns an id for it. Nil: nobody is interested.
	Request func(*Request) (id int64, err error)
	// Record gets what became of a request when that is known, in the order of the
	// answers. What succeeded is not recorded of Parse, Bind, Describe and Close.
	Record func(*Statement) error
	// Secret tells whether values that are bound to a statement may be secrets; nil
	// means never.
	Secret func(sql string) bool
	// Values asks for the values of Bind and function calls in readable form.
	Values bool
	// MaxText is how much is looked at of a request; zero means 16 KiB.
	MaxText int
}

// Statements matches a session's requests with the answers of the server. One that
// sends more requests without reading the answers than fit in a few megabytes, or
// whose answers make no sense, is no longer matched: from then on every request is
// recorded at once with the outcome Unknown. Nothing is lost, and memory stays
// bounded.
type Statements struct {
	cfg     StatementsConfig
	sizes   [2]atomic.Int64 // bytes of copy data so far, by direction
	backlog backlog

	mu sync.Mutex // before that of the backlog
	// All below is guarded by mu.
	queue      []request          // sent, not answered yet; the first is being answered
	room       *[]request         // of requestPool: what queue is in; nil while it is empty
	statements byName[definition] // prepared
	portals    byName[binding]
	sent       byName[definition] // the last Parse of a name that is not answered yet
	segment    int                // counts Syncs of the client
	held       int                // estimate of all that is above
	copied     [2]int64           // of sizes, before the frame that is being looked at
	credited   [2]int64           // of copied, given to a statement already
	skipping   bool               // the server ignores requests until a Sync that is not sent yet
	copyIn     bool               // the server takes copy data, of which the end is not sent yet
	detached   bool               // requests are no longer matched
	tx         byte               // of the last ReadyForQuery
	now        time.Time          // when the frame was read that is being looked at
	scratch    *scratch           // of scratches, while frames are looked at
	tag        CommandTag         // the last one
	tags       []string           // its text alone; never changed
	answered   time.Time          // when the last statement ended
	err        error              // of Record
}

// definition is a prepared statement.
type definition struct {
	id      int64
	name    string
	types   []uint32
	secret  bool
	doubted bool // a secret one of the same name was not answered when this was sent
	segment int  // in which it was sent
}

func (d *definition) cost() int { return requestCost + len(d.name) + 4*len(d.types) }

// binding is a portal: a statement with values.
type binding struct {
	id                int64
	portal, statement string
	def               *definition // nil if not known
}

func (b *binding) cost() int { return requestCost + len(b.portal) + len(b.statement) }

// NewStatements returns a tracker for one session.
func NewStatements(cfg StatementsConfig) *Statements {
	if cfg.MaxText <= 0 {
		cfg.MaxText = defaultMaxText
	}
	return &Statements{cfg: cfg, tx: 'I'}
}

// Observe returns what a [Relay] needs to feed s. Its Frame returns the error of a
// request that cannot be decoded, which ends the session.
func (s *Statements) Observe() *Observe {
	frame := s.frame
	if s.cfg.Kept != nil {
		frame = s.keep
	}
	return &Observe{
		Bodies:  [2]TypeSet{ToServer: Types("QPBECDF"), ToClient: Types("CEZt")},
		Headers: [2]TypeSet{ToServer: Types("Scf"), ToClient: Types("123nTsIGHWV")},
		Counted: [2]TypeSet{ToServer: Types("d"), ToClient: Types("d")},
		Sizes:   &s.sizes,
		Limit:   s.cfg.MaxText,
		Digest:  true,
		Frame:   frame,
	}
}

// frame looks at a frame.
func (s *Statements) frame(f *Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.leaveScratch()
	return s.look(f, s.moved())
}

// moved returns how much copy data was moved so far, by direction.
func (s *Statements) moved() [2]int64 {
	return [2]int64{ToServer: s.sizes[ToServer].Load(), ToClient: s.sizes[ToClient].Load()}
}

// look looks at a frame before which so much copy data was moved. s.mu is held.
func (s *Statements) look(f *Frame, copied [2]int64) error {
	if s.now = f.At; s.now.IsZero() {
		s.now = time.Now()
	}
	// What is looked at later may have been sent on a little earlier.
	s.copied = [2]int64{max(s.copied[0], copied[0]), max(s.copied[1], copied[1])}
	s.creditCopy()
	if f.Direction == ToServer {
		return s.request(f)
	}
	if !s.detached {
		s.answer(f)
	}
	return s.err
}

// Close records what has no answer. Call it when the session has ended.
func (s *Statements) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.leaveScratch()
	_ = s.lookAll() // the session has ended
	s.now = time.Now()
	s.copied = s.moved()
	s.creditCopy()
	s.detach()
}

// request takes a frame of the client. s.mu is held.
func (s *Statements) request(f *Frame) error {
	switch f.Type {
	case 'c', 'f':
		s.endCopyIn()
		return s.err
	case 'S':
		s.pushSync()
		return s.err
	}
	r, shown, err := s.decode(f)
	if err != nil {
		return err
	}
	if s.cfg.Request != nil {
		if r.ID, err = s.cfg.Request(shown); err != nil {
			return err
		}
	}
	switch {
	case r.def != nil:
		r.def.id = r.ID
	case r.bind != nil:
		r.bind.id = r.ID
	}
	r.Start, r.Rows, r.TxStatus = s.now, -1, s.tx
	s.push(r)
	return s.err
}

// push queues a request, or records it at once when it will have no answer.
func (s *Statements) push(r *request) {
	if !s.detached && !s.skipping && s.held+r.cost > maxHeld {
		s.detach()
	}
	if s.skipping && !s.detached {
		s.skip(r)
		return
	}
	if r.def != nil {
		s.expectParse(r.def)
	}
	if s.detached {
		s.record(r, Unknown)
		return
	}
	if len(s.queue) == cap(s.queue) {
		s.makeRoom()
	}
	s.queue = append(s.queue, *r)
	s.held += r.cost
}

// requestPool holds the room of queues, all empty: a session that waits needs none.
var requestPool = sync.Pool{New: func() any { return new(make([]request, 0, 8)) }}

// maxRoom bounds what goes back to requestPool.
const maxRoom = 256

// makeRoom makes room for another request in the queue.
func (s *Statements) makeRoom() {
	if s.room == nil {
		s.room = requestPool.Get().(*[]request)
		s.queue = *s.room
		return
	}
	room := *s.room
	if 2*len(s.queue) > cap(room) {
		room = make([]request, 0, 2*cap(room))
		*s.room = room
	}
	old := s.queue
	s.queue = append(room, old...)
	clear(old) // lets go of what it holds, as the rest of the room has
}

// leaveRoom gives the room of an empty queue back.
func (s *Statements) leaveRoom() {
	if cap(*s.room) <= maxRoom {
		requestPool.Put(s.room)
	}
	s.queue, s.room = nil, nil
}

func (s *Statements) pushSync() {
	s.segment++
	if s.detached {
		s.sent = byName[definition]{}
		s.held = 0
		return
	}
	s.skipping = false
	r := s.newRequest()
	r.sync, r.doubtful = true, s.copyIn
	s.push(r)
}

// creditCopy gives copy data to the statement that it belongs to. What the server
// sent belongs to the one being answered; what the client sent too or, if it does
// not wait for the go-ahead, to the last one sent.
func (s *Statements) creditCopy() {
	if n := s.copied[ToClient] - s.credited[ToClient]; n > 0 {
		s.credited[ToClient] += n
		if len(s.queue) > 0 {
			s.queue[0].CopyBytes += n
		}
	}
	n := s.copied[ToServer] - s.credited[ToServer]
	if n == 0 {
		return
	}
	s.credited[ToServer] += n
	for i := len(s.queue) - 1; i >= 0; i-- {
		if k := s.queue[i].Kind; k == KindQuery || k == KindExecute {
			s.queue[i].CopyBytes += n
			return
		}
	}
}

func (s *Statements) endCopyIn() {
	if s.copyIn {
		s.copyIn = false
		return
	}
	// Sent before the server's go-ahead was seen. It marks which Syncs came before.
	if len(s.queue) > 0 && !s.skipping {
		s.push(s.newRequest())
	}
}

// record hands a statement out. After an error nothing more is.
func (s *Statements) record(r *request, o Outcome) {
	st := &r.Statement
	st.Outcome = o
	st.End = s.now
	began := st.Start
	if s.answered.After(began) {
		began = s.answered
	}
	// What was read of the two directions is not looked at in the order of the clock.
	st.Duration = max(0, st.End.Sub(began))
	if o != Copying {
		s.answered = st.End
	}
	if b := r.bind; b != nil {
		st.BindID = b.id
		if b.def != nil {
			st.ParseID, st.Secret = b.def.id, st.Secret || b.def.secret
		}
	}
	for _, text := range []*string{&st.Name, &st.Portal, &st.Message} {
		*text = validString(*text)
	}
	if s.err == nil {
		s.err = s.cfg.Record(st)
	}
}

// skip records a request that the server ignores, if it would have done anything.
func (s *Statements) skip(r *request) {
	switch r.Kind {
	case KindQuery, KindExecute, KindFunctionCall:
		s.record(r, Skipped)
	default:
	}
}

// detach gives up matching: what waits is recorded as it is.
func (s *Statements) detach() {
	if s.detached {
		return
	}
	queue := s.queue
	s.queue, s.room, s.statements, s.portals, s.held, s.detached = nil, nil, byName[definition]{}, byName[binding]{}, 0, true
	for name, d := range s.sent.all() {
		if d.segment != s.segment {
			s.sent.drop(name)
		} else {
			s.held += d.cost()
		}
	}
	for i := range queue {
		r := &queue[i]
		switch {
		case r.Kind == 0:
		case r.SQLState != "":
			s.record(r, Failed)
		default:
			s.record(r, Unknown)
		}
	}
}
