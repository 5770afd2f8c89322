package pgwire

import (
	"sync"
	"time"
)

// Request is what a client asks for. It keeps nothing of the frame, and its texts are
// valid UTF-8. It is valid until who is shown it returns; the texts are for longer.
type Request struct {
	Kind StatementKind
	At   time.Time // when it was read
	// Size is the size of the message's body in bytes, and Digest the SHA-256 of its
	// SQL or, where it has none, of the whole body: nil unless it was too long to be
	// looked at as a whole.
	Size   int
	Digest []byte

	Text         Text   // the SQL of a Query or Parse
	Secret       bool   // as [StatementsConfig].Secret says of that SQL
	Name, Portal string // of the prepared statement and the portal
	Function     uint32 // OID, for KindFunctionCall
	// Params are the values of a Bind or function call, decoded by their types as far
	// as those are known for certain. They are nil when not wanted, or Withheld.
	Params    []Argument
	ParamsCut bool // values are missing at the end, or cut
	// Withheld is set on a Bind whose statement is secret; Count tells how many values
	// it has.
	Withheld bool
	Count    int
}

// request is something that the client sent and the server has to answer.
type request struct {
	Statement             // its Kind is 0 for Sync and the end of copy data
	def       *definition // Parse
	bind      *binding    // Bind, and Execute once resolved
	target    Target      // Describe, Close
	maxRows   uint32      // Execute
	sync      bool
	doubtful  bool // a Sync that the server ignores, unless COPY fails before it is read
	cost      int
}

// unanswered reports whether r has no answer of its own once what is before it is
// completed: the end of copy data, and Sync among it.
func (r *request) unanswered() bool { return r.Kind == 0 && (!r.sync || r.doubtful) }

// scratch is room for what is made of one request, and then not needed any more.
type scratch struct {
	request request
	shown   Request
	values  []Value
	args    []Argument
}

var scratches = sync.Pool{New: func() any {
	return &scratch{values: make([]Value, 0, 8), args: make([]Argument, 0, 8)}
}}

// maxScratch bounds the values for which a scratch keeps room.
const maxScratch = 256

// needScratch returns a scratch that lasts until leaveScratch. s.mu is held, for both.
func (s *Statements) needScratch() *scratch {
	if s.scratch == nil {
		s.scratch = scratches.Get().(*scratch)
	}
	return s.scratch
}

func (s *Statements) leaveScratch() {
	c := s.scratch
	if c == nil {
		return
	}
	s.scratch = nil
	if cap(c.values) > maxScratch || cap(c.args) > maxScratch {
		return
	}
	c.request, c.shown = request{}, Request{} // lets go of what they hold
	clear(c.values)
	clear(c.args)
	scratches.Put(c)
}

// newRequest returns an empty request, which lasts until the next one. s.mu is held.
func (s *Statements) newRequest() *request {
	r := &s.needScratch().request
	*r = request{cost: requestCost}
	return r
}

// decode makes a request of the frames that carry one, and what is shown of it. Both
// last until the next one. s.mu is held.
func (s *Statements) decode(f *Frame) (r *request, q *Request, err error) {
	r = s.newRequest()
	room := s.scratch
	q = &room.shown
	*q = Request{At: s.now, Size: f.Length, Digest: f.Digest}
	switch f.Type {
	case 'Q':
		q.Kind = KindQuery
		q.Text, err = DecodeQuery(f)
		q.Secret = s.secret(&q.Text)
		r.Secret = q.Secret
	case 'P':
		var p Parse
		p, err = DecodeParse(f)
		q.Kind, q.Name, q.Text = KindParse, p.Statement, p.Query
		q.Secret = s.secret(&q.Text)
		r.Secret = q.Secret
		r.def = &definition{name: p.Statement, types: p.Types, secret: q.Secret, segment: s.segment}
	case 'B':
		var b Bind
		b, err = decodeBind(f, room.values[:0])
		room.values = b.Values
		q.Kind, q.Name, q.Portal, q.Count = KindBind, b.Statement, b.Portal, len(b.Values)
		r.bind = &binding{portal: b.Portal, statement: b.Statement}
		s.showValues(q, &b)
		r.Secret = q.Withheld
	case 'E':
		var e Execute
		e, err = DecodeExecute(f)
		q.Kind, q.Portal, r.maxRows = KindExecute, e.Portal, e.MaxRows
	case 'D', 'C':
		q.Kind = KindDescribe
		if f.Type == 'C' {
			q.Kind = KindClose
		}
		r.target, err = DecodeTarget(f)
		if r.target.Portal {
			q.Portal = r.target.Name
		} else {
			q.Name = r.target.Name
		}
	case 'F':
		var call FunctionCall
		call, err = DecodeFunctionCall(f)
		q.Kind, q.Function, q.Count = KindFunctionCall, call.OID, len(call.Args)
		if s.cfg.Values {
			q.Params, q.ParamsCut = readable([]Argument{}, call.Args, argumentTypes(call.OID)), call.Truncated
		}
	}
	q.Name, q.Portal = validString(q.Name), validString(q.Portal)
	r.Kind, r.Name, r.Portal = q.Kind, q.Name, q.Portal
	r.cost += len(q.Name) + len(q.Portal)
	return r, q, err
}

// secret makes a text valid, and reports whether values bound to it are secrets.
func (s *Statements) secret(t *Text) bool {
	if t.Truncated() {
		t.Value = validText([]byte(t.Value), true)
	} else {
		t.Value = validString(t.Value)
	}
	return s.cfg.Secret != nil && s.cfg.Secret(t.Value)
}

// showValues decodes the values of a Bind if they are wanted.
func (s *Statements) showValues(q *Request, b *Bind) {
	types, secret := s.expect(b.Statement)
	q.Withheld, q.ParamsCut = secret, b.Truncated
	if secret || !s.cfg.Values {
		return
	}
	s.scratch.args = readable(s.scratch.args[:0], b.Values, types)
	q.Params = s.scratch.args
}

// expect returns what a name stands for when the server reads a request that is
// sent now: the types of its parameters, nil where that is not certain, and whether
// it may be a secret statement.
//
// A Parse in front of it in the same pipeline is certain: if that fails or is
// skipped, so is what follows up to the next Sync. One in an earlier pipeline that
// is not answered yet may have been skipped, and then the name stands for what it
// stood for before.
func (s *Statements) expect(name string) (types []uint32, secret bool) {
	known, sent := s.statements.get(name), s.sent.get(name)
	switch {
	case sent == nil && known == nil:
		return nil, false
	case sent == nil:
		return known.types, known.secret
	case sent.segment == s.segment:
		return sent.types, sent.secret
	}
	return nil, sent.secret || sent.doubted || known != nil && known.secret
}

// expectParse notes a Parse that is sent now.
func (s *Statements) expectParse(d *definition) {
	if old := s.sent.get(d.name); old != nil {
		d.doubted = old.secret || old.doubted
		s.unexpect(old)
	}
	if s.held+d.cost() > maxHeld {
		return
	}
	s.sent.set(d.name, d)
	s.held += d.cost()
}

// unexpect forgets a Parse that was answered, or never will be.
func (s *Statements) unexpect(d *definition) {
	if s.sent.get(d.name) == d {
		s.sent.drop(d.name)
		s.held -= d.cost()
	}
}
