package pgwire

import (
	"bytes"
	"strings"
	"sync"
	"time"
)

const (
	defaultMaxText = 16 << 10

	// maxHeld bounds what is kept of one session: requests without an answer yet, and
	// prepared statements and portals. It is far above what drivers pipeline.
	maxHeld = 8 << 20
	// requestCost is counted for each request on top of its texts.
	requestCost = 400
)

// StatementsConfig says what becomes of statements.
type StatementsConfig struct {
	// Record gets each statement when its outcome is known, in the order of the
	// answers. It must not block, nor call the [Statements].
	Record func(Statement)
	// MaxText is how much is kept of a request; zero means 16 KiB.
	MaxText int
}

// Statements matches a session's requests with the answers of the server. One that
// sends more requests without reading the answers than fit in a few megabytes, or
// whose answers make no sense, is no longer matched: from then on every request is
// recorded at once with the outcome Unknown. Nothing is lost, and memory stays
// bounded.
type Statements struct {
	cfg StatementsConfig

	mu sync.Mutex
	// All below is guarded by mu.
	queue      []request              // sent, not answered yet; the first is being answered
	statements map[string]*definition // prepared, by name
	portals    map[string]*binding    // by name
	held       int                    // estimate of all that is above
	skipping   bool                   // the server ignores requests until a Sync that is not sent yet
	copyIn     bool                   // the server takes copy data, of which the end is not sent yet
	detached   bool                   // requests are no longer matched
	tx         byte                   // of the last ReadyForQuery
	answered   time.Time              // when the last statement ended
}

// definition is a prepared statement.
type definition struct {
	name  string
	text  Text
	types []uint32
}

func (d *definition) cost() int {
	return requestCost + len(d.name) + len(d.text.Value) + 4*len(d.types)
}

// binding is a portal: a statement with values.
type binding struct {
	portal, statement string
	def               *definition // nil if not known
	values            []Value
	cut               bool
	size              int
}

func (b *binding) cost() int { return requestCost + b.size }

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

// NewStatements returns a tracker for one session.
func NewStatements(cfg StatementsConfig) *Statements {
	if cfg.MaxText <= 0 {
		cfg.MaxText = defaultMaxText
	}
	return &Statements{cfg: cfg, statements: map[string]*definition{}, portals: map[string]*binding{}}
}

// Observe returns what a [Relay] needs to feed s. Its Frame returns the error of a
// request that cannot be decoded, which ends the session.
func (s *Statements) Observe() *Observe {
	return &Observe{
		Bodies:  [2]TypeSet{ToServer: Types("QPBECDF"), ToClient: Types("CEZt")},
		Headers: [2]TypeSet{ToServer: Types("Scfd"), ToClient: Types("123nTsIGVd")},
		Limit:   s.cfg.MaxText,
		Frame:   s.frame,
	}
}

func (s *Statements) frame(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Direction == ToServer {
		return s.request(f)
	}
	if !s.detached {
		s.answer(f)
	}
	return nil
}

// Close records what has no answer. Call it when the session has ended.
func (s *Statements) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detach()
}

// request takes a frame of the client. s.mu is held.
func (s *Statements) request(f Frame) error {
	switch f.Type {
	case 'd':
		s.countCopyIn(f.Length)
		return nil
	case 'c', 'f':
		s.endCopyIn()
		return nil
	case 'S':
		s.pushSync()
		return nil
	}
	r, err := decodeRequest(f)
	if err != nil {
		return err
	}
	r.Start, r.Rows, r.TxStatus = time.Now(), -1, s.tx
	s.push(r)
	return nil
}

// decodeRequest makes a request of the frames that carry one. It keeps nothing of
// f.Body.
func decodeRequest(f Frame) (r request, err error) {
	r.cost = requestCost + len(f.Body)
	switch f.Type {
	case 'Q':
		r.Kind = KindQuery
		r.Text, err = DecodeQuery(f)
	case 'P':
		var p Parse
		p, err = DecodeParse(f)
		r.Kind, r.Name, r.Text = KindParse, p.Statement, p.Query
		r.def = &definition{name: p.Statement, text: p.Query, types: p.Types}
	case 'B':
		var b Bind
		f.Body = bytes.Clone(f.Body) // the values point into it
		b, err = DecodeBind(f)
		r.Kind, r.Name, r.Portal = KindBind, b.Statement, b.Portal
		r.bind = &binding{portal: b.Portal, statement: b.Statement, values: b.Values, cut: b.Truncated, size: len(f.Body) + 48*len(b.Values)}
		r.cost += 48 * len(b.Values)
	case 'E':
		var e Execute
		e, err = DecodeExecute(f)
		r.Kind, r.Portal, r.maxRows = KindExecute, e.Portal, e.MaxRows
	case 'D', 'C':
		r.Kind = KindDescribe
		if f.Type == 'C' {
			r.Kind = KindClose
		}
		r.target, err = DecodeTarget(f)
		if r.target.Portal {
			r.Portal = r.target.Name
		} else {
			r.Name = r.target.Name
		}
	case 'F':
		var call FunctionCall
		call, err = DecodeFunctionCall(f)
		r.Kind, r.Function = KindFunctionCall, call.OID
		r.Params, r.ParamsCut = readable(call.Args, nil), call.Truncated
	}
	return r, err
}

// push queues a request, or records it at once when it will have no answer.
func (s *Statements) push(r request) {
	switch {
	case s.detached:
		s.record(&r, Unknown)
	case s.skipping:
		s.skip(&r)
	case s.held+r.cost > maxHeld:
		s.detach()
		s.record(&r, Unknown)
	default:
		s.queue = append(s.queue, r)
		s.held += r.cost
	}
}

func (s *Statements) pushSync() {
	if s.detached {
		return
	}
	s.skipping = false
	s.push(request{sync: true, doubtful: s.copyIn, cost: requestCost})
}

// countCopyIn counts copy data for the statement that takes it: the one being
// answered, or if the client does not wait for the go-ahead the last one sent.
func (s *Statements) countCopyIn(n int) {
	for i := len(s.queue) - 1; i >= 0; i-- {
		if k := s.queue[i].Kind; k == KindQuery || k == KindExecute {
			s.queue[i].CopyBytes += int64(n)
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
		s.push(request{cost: requestCost})
	}
}

// record resolves a request's values and hands it out.
func (s *Statements) record(r *request, o Outcome) {
	st := r.Statement
	st.Outcome = o
	if r.bind != nil {
		st.Params, st.ParamsCut = r.bind.arguments(), r.bind.cut
	}
	now := time.Now()
	st.Duration = now.Sub(st.Start)
	if s.answered.After(st.Start) {
		st.Duration = now.Sub(s.answered)
	}
	s.answered = now
	if st.Text.Truncated() {
		st.Text.Value = strings.ToValidUTF8(st.Text.Value, "") // the cut may split a character
	}
	for _, text := range []*string{&st.Text.Value, &st.Name, &st.Portal, &st.Message} {
		*text = strings.ToValidUTF8(*text, "\uFFFD")
	}
	s.cfg.Record(st)
}

// arguments returns the values in readable form.
func (b *binding) arguments() []Argument {
	var types []uint32
	if b.def != nil {
		types = b.def.types
	}
	return readable(b.values, types)
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
	queue := s.queue
	s.queue, s.statements, s.portals, s.held, s.detached = nil, nil, nil, 0, true
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
