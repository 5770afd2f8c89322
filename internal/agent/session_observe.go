package agent

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// observedText is how much of a statement is kept. More would have to be held in
// memory several times over, for each session that sends it; size and hash of the
// whole are kept too.
const observedText = 256 << 10

// withheld stands for a value that may be a password.
const withheld = "[redacted]"

// observe returns what the relay shows us: the client's requests, each before it
// is sent on, and what became of them. One that cannot be put on record does not
// reach PostgreSQL. It is nil where policy wants statements not recorded.
func (s *session) observe(ctx context.Context) (_ *pgwire.Observe, err error) {
	if s.decision.Limits.Record == resource.RecordNone {
		return nil, nil
	}
	s.recording = ctx
	if s.subject, err = s.who().Prepare(s.auditDatabase()); err != nil {
		return nil, err
	}
	s.statements = pgwire.NewStatements(pgwire.StatementsConfig{
		Request: s.recordRequest,
		Record:  s.recordOutcome,
		Secret:  audit.MentionsPassword,
		Values:  s.decision.Limits.Record == resource.RecordFull,
		MaxText: observedText,
	})
	observe := s.statements.Observe()
	next := observe.Frame
	observe.Frame = func(f pgwire.Frame) error {
		err := next(f)
		if err != nil && fault.KindOf(err) == fault.Invalid {
			s.post(ctx, audit.MalformedPacket{Session: s.next(), Database: s.auditDatabase(), Error: err.Error()})
		}
		return err
	}
	return observe, nil
}

// nextStatement is next for the events of statements, which need no Database, and say
// when something was read.
func (s *session) nextStatement(at time.Time) audit.Session {
	e := s.subject
	e.Time, e.Index = at, s.events.Add(1)-1
	return e
}

// recordRequest puts a request on record and returns the index of its event.
func (s *session) recordRequest(q pgwire.Request) (int64, error) {
	if q.Kind == pgwire.KindDescribe {
		return 0, nil // changes nothing and reads nothing
	}
	event, room := s.nextStatement(q.At), eventRooms.Get().(*eventRoom)
	defer eventRooms.Put(room)
	return event.Index, s.agent.cfg.Audit.Stream(s.recording, s.requestEvent(room, event, q))
}

// eventRoom has room for one event of each kind that comes often: they are large, and
// there are up to four for each statement.
type eventRoom struct {
	query   audit.DatabaseQuery
	parse   audit.StatementParse
	bind    audit.StatementBind
	execute audit.StatementExecute
	result  audit.DatabaseResult
}

var eventRooms = sync.Pool{New: func() any { return new(eventRoom) }}

func (s *session) requestEvent(room *eventRoom, event audit.Session, q pgwire.Request) audit.Event {
	switch q.Kind {
	case pgwire.KindQuery:
		text, short := s.text(q)
		room.query = audit.DatabaseQuery{Session: event, Outcome: audit.Outcome{Success: true}, Query: text, Shortened: short}
		return &room.query
	case pgwire.KindParse:
		text, short := s.text(q)
		room.parse = audit.StatementParse{Session: event, StatementName: q.Name, Query: text, Shortened: short}
		return &room.parse
	case pgwire.KindBind:
		values, sizes, short := s.values(q)
		room.bind = audit.StatementBind{Session: event, StatementName: q.Name, PortalName: q.Portal, Parameters: values, Sizes: sizes, Shortened: short}
		return &room.bind
	case pgwire.KindExecute:
		room.execute = audit.StatementExecute{Session: event, PortalName: q.Portal}
		return &room.execute
	case pgwire.KindClose:
		return audit.StatementClose{Session: event, StatementName: q.Name, PortalName: q.Portal}
	default:
		values, sizes, short := s.values(q)
		return audit.FunctionCall{Session: event, FunctionOID: q.Function, Arguments: values, Sizes: sizes, Shortened: short}
	}
}

// text returns a statement as policy wants it recorded: without its secrets, or
// only its first word. A hash would help to guess what was left out, so there is
// one of whole statements only.
func (s *session) text(q pgwire.Request) (string, audit.Shortened) {
	if s.decision.Limits.Record == resource.RecordTag {
		return audit.CommandWord(q.Text.Value), audit.Shortened{}
	}
	text := audit.Redact(q.Text.Value)
	if !q.Text.Truncated() {
		return text, audit.Shortened{}
	}
	short := audit.Shortened{Truncated: true, FullSize: int64(q.Text.Length)}
	if !q.Secret {
		short.FullHash = hex.EncodeToString(q.Digest)
	}
	return text, short
}

// values returns values in readable form, nil for NULL, and the sizes of all where
// not all of them are shown as a whole.
func (s *session) values(q pgwire.Request) (values []*string, sizes []int, short audit.Shortened) {
	if s.decision.Limits.Record == resource.RecordTag {
		return nil, nil, audit.Shortened{}
	}
	if q.Withheld {
		hidden := withheld
		for range q.Count {
			values = append(values, &hidden)
		}
		return values, nil, audit.Shortened{Truncated: q.ParamsCut}
	}
	if len(q.Params) > 0 {
		values = make([]*string, len(q.Params))
	}
	cut := q.ParamsCut
	for i := range q.Params {
		if p := &q.Params[i]; !p.Null {
			values[i] = &p.Text
			cut = cut || p.Truncated
		}
	}
	if !cut {
		return values, nil, audit.Shortened{}
	}
	for _, p := range q.Params {
		sizes = append(sizes, p.Length)
	}
	return values, sizes, audit.Shortened{Truncated: true, FullSize: int64(q.Size), FullHash: hex.EncodeToString(q.Digest)}
}
