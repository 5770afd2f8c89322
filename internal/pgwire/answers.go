package pgwire

import "slices"

// This file follows exec_simple_query and the main loop of the server
// (src/backend/tcop/postgres.c): which answers a request has, and which requests
// are ignored after an error.

// answer takes a frame of the server. s.mu is held.
func (s *Statements) answer(f *Frame) {
	if len(s.queue) == 0 {
		s.unasked(f)
		return
	}
	r := &s.queue[0]
	switch f.Type {
	case 'E':
		s.failed(r, ParseError(f.Body))
	case 'Z':
		s.readyFor(r, f)
	case 'C', 'I', 's':
		s.completed(r, f)
	case 'G', 'H', 'W':
		s.beginCopy(r, f.Type)
	case 'V':
		// The result of a function call; ReadyForQuery follows.
	default:
		s.acknowledged(r, f)
	}
}

// unasked handles an answer to nothing that is known. An error may come at any
// time. All else says that something ran which was not taken for it: that must be
// seen in the record.
func (s *Statements) unasked(f *Frame) {
	switch f.Type {
	case 'E':
		return
	case 'C', 'I', 's':
		r := request{Statement: Statement{Kind: KindExecute, Unresolved: true, Start: s.now, Rows: -1, TxStatus: s.tx}}
		if f.Type == 'C' {
			s.addTag(&r, f)
		}
		s.record(&r, Done)
	}
	s.detach()
}

// failed notes an error. Requests of the extended protocol end with it and take all
// others up to the next Sync with them.
func (s *Statements) failed(r *request, e *Error) {
	s.copyIn = false
	r.SQLState, r.Message = e.code(), e.Message
	switch r.Kind {
	case KindExecute:
		s.resolve(r)
	case KindBind:
		if d := s.statements.get(r.Name); d != nil {
			r.bind.def = d
		}
	default:
	}
	if slices.ContainsFunc(s.queue, func(r request) bool { return r.doubtful }) {
		s.detach() // nobody can tell which of these Syncs the server had read before the error
		return
	}
	if r.sync || r.Kind == KindQuery || r.Kind == KindFunctionCall {
		return // ReadyForQuery ends it
	}
	s.finish(Failed)
	for len(s.queue) > 0 && !s.queue[0].sync {
		s.skip(&s.queue[0])
		s.pop()
	}
	s.skipping = len(s.queue) == 0
}

// ready notes the transaction status. Portals do not outlive their transaction.
func (s *Statements) ready(f *Frame) {
	c := cursor{rest: f.Body}
	s.tx = c.byte()
	if s.tx != 'I' {
		return
	}
	for name := range s.portals.all() {
		s.forgetPortal(name)
	}
}

// readyFor ends what is ended by ReadyForQuery.
func (s *Statements) readyFor(r *request, f *Frame) {
	s.ready(f)
	switch {
	case r.sync:
		if r.SQLState != "" {
			r.Kind, r.Rows, r.TxStatus, r.Start = KindCommit, -1, s.tx, s.now
			s.finish(Failed)
			return
		}
		s.pop()
	case r.Kind == KindQuery || r.Kind == KindFunctionCall:
		r.TxStatus = s.tx
		if r.SQLState != "" {
			s.finish(Failed)
		} else {
			s.finish(Done)
		}
	default:
		s.detach() // the server is ready, but has not answered
	}
}

// completed handles the three ends of an Execute, two of which also end one of the
// statements in a simple query.
func (s *Statements) completed(r *request, f *Frame) {
	if r.Kind != KindQuery && r.Kind != KindExecute || f.Type == 's' && r.Kind != KindExecute {
		s.detach()
		return
	}
	if f.Type == 'C' {
		s.addTag(r, f)
		switch s.tag.Text {
		case "DISCARD ALL", "DEALLOCATE ALL", "PREPARE":
			// A name that SQL prepares was free, whatever was seen of it. Which one it was is
			// not known.
			s.forgetStatements()
		}
	}
	if r.Kind == KindQuery {
		return
	}
	s.resolve(r)
	if f.Type == 's' {
		r.Rows = int64(r.maxRows)
		s.finish(Suspended)
		return
	}
	s.finish(Done)
}

// addTag notes a command tag of r, which mostly is the one that the statement before had.
func (s *Statements) addTag(r *request, f *Frame) {
	c := cursor{rest: f.Body}
	if text := c.cstring(); string(text) != s.tag.Text || s.tags == nil {
		s.tag = DecodeCommandTag(f)
		s.tags = []string{s.tag.Text}
	}
	switch {
	case len(r.Tags) == 0:
		r.Tags = s.tags
	case len(r.Tags) < maxTags:
		r.Tags = append(r.Tags, s.tag.Text)
	}
	if s.tag.Rows >= 0 {
		r.Rows = max(r.Rows, 0) + s.tag.Rows
	}
}

// acknowledges returns which kind of request an answer is for.
func acknowledges(typ byte) StatementKind {
	switch typ {
	case '1':
		return KindParse
	case '2':
		return KindBind
	case '3':
		return KindClose
	case 't', 'T', 'n':
		return KindDescribe
	}
	return 0
}

// acknowledged handles the answers to Parse, Bind, Describe and Close.
func (s *Statements) acknowledged(r *request, f *Frame) {
	if r.Kind == KindQuery && f.Type == 'T' {
		return // rows follow
	}
	if r.Kind == 0 || r.Kind != acknowledges(f.Type) {
		s.detach()
		return
	}
	switch f.Type {
	case '1':
		s.unexpect(r.def)
		s.forgetStatement(r.def.name)
		s.statements.set(r.def.name, r.def)
		s.held += r.def.cost()
	case '2':
		s.forgetPortal(r.bind.portal)
		r.bind.def = s.statements.get(r.bind.statement)
		s.portals.set(r.bind.portal, r.bind)
		s.held += r.bind.cost()
	case '3':
		if r.target.Portal {
			s.forgetPortal(r.target.Name)
		} else {
			s.forgetStatement(r.target.Name)
		}
	case 't':
		if d := s.statements.get(r.target.Name); d != nil && !r.target.Portal {
			s.held -= d.cost()
			d.types = DecodeTypes(f)
			s.held += d.cost()
		}
		return // RowDescription or NoData follows
	}
	s.pop()
}

// beginCopy records that COPY has begun, and follows the server into copy mode.
func (s *Statements) beginCopy(r *request, typ byte) {
	if r.Kind != KindQuery && r.Kind != KindExecute {
		s.detach()
		return
	}
	if r.Kind == KindExecute {
		s.resolve(r)
	}
	switch typ {
	case 'G':
		r.Copy = CopyIn
		s.beginCopyIn()
		r = &s.queue[0]
	case 'H':
		r.Copy = CopyOut
	case 'W':
		r.Copy = CopyBoth
	}
	s.record(r, Copying)
}

// beginCopyIn: in copy mode the server ignores Sync. One that stands directly behind
// the statement is read before any data, so it gets no answer.
func (s *Statements) beginCopyIn() {
	i := 1
	for i < len(s.queue) && s.queue[i].sync {
		s.held -= s.queue[i].cost
		i++
	}
	s.queue = slices.Delete(s.queue, 1, i)
	s.copyIn = len(s.queue) == 1
}

// resolve completes an Execute by what its portal stands for now.
func (s *Statements) resolve(r *request) {
	b := s.portals.get(r.Portal)
	if b == nil {
		r.Unresolved = true
		return
	}
	r.Name, r.bind = b.statement, b
	r.Unresolved = b.def == nil
}

// finish records the first request and drops it.
func (s *Statements) finish(o Outcome) {
	s.record(&s.queue[0], o)
	s.pop()
}

// pop drops the first request, and what has no answer of its own behind it.
func (s *Statements) pop() {
	n := 1
	for n < len(s.queue) && s.queue[n].unanswered() {
		n++
	}
	for i := range n {
		r := &s.queue[i]
		s.held -= r.cost
		if r.def != nil {
			s.unexpect(r.def)
		}
		*r = request{} // let go of what it holds
	}
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.leaveRoom()
	}
}

func (s *Statements) forgetStatement(name string) {
	if d := s.statements.get(name); d != nil {
		s.held -= d.cost()
		s.statements.drop(name)
	}
}

func (s *Statements) forgetStatements() {
	for name := range s.statements.all() {
		s.forgetStatement(name)
	}
}

func (s *Statements) forgetPortal(name string) {
	if b := s.portals.get(name); b != nil {
		s.held -= b.cost()
		s.portals.drop(name)
	}
}
