package agent

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// observedText is how much of a statement is kept. More would have to be held in
// memory several times over, for each session that sends it; size and hash of the
// whole are kept too.
const observedText = 256 << 10

// maxRoomValues bounds how many values an eventRoom keeps room for.
const maxRoomValues = 256

// withheld stands for a value that may be a password.
const withheld = "[redacted]"

// observe returns what the relay shows us: the client's requests, each before it
// is sent on, and what became of them. One that cannot be read does not reach PostgreSQL;
// the recorder puts the others on record. It is nil where policy wants statements not
// recorded.
func (s *session) observe(ctx context.Context) (_ *pgwire.Observe, err error) {
	if s.decision.Limits.Record == resource.RecordNone {
		return nil, nil
	}
	s.recording = context.WithoutCancel(ctx) // what was let through is put on record also when the session has to end
	if s.subject, err = s.who().Prepare(s.auditDatabase()); err != nil {
		return nil, err
	}
	s.statements = pgwire.NewStatements(pgwire.StatementsConfig{
		Kept: func(many bool) {
			if many {
				s.agent.recorder.hurry()
			} else {
				s.agent.recorder.add(s)
			}
		},
		Malformed: func(err error) {
			s.post(s.recording, audit.MalformedPacket{Session: s.next(), Database: s.auditDatabase(), Error: err.Error()})
		},
		Request: s.recordRequest,
		Record:  s.recordOutcome,
		Secret:  audit.MentionsPassword,
		Values:  s.decision.Limits.Record == resource.RecordFull,
		MaxText: observedText,
	})
	return s.statements.Observe(), nil
}

// recordRequest puts a request on record and returns the index of its event.
func (s *session) recordRequest(q *pgwire.Request) (int64, error) {
	if q.Kind == pgwire.KindDescribe {
		return 0, nil // changes nothing and reads nothing
	}
	room := eventRooms.Get().(*eventRoom)
	defer eventRooms.Put(room)
	return s.stream(room, q.At, s.requestEvent(room, q))
}

// stream puts an event of statements on record, and returns its index.
func (s *session) stream(room *eventRoom, at time.Time, what audit.StatementEvent) (int64, error) {
	room.statement = audit.Statement{Session: s.subject, Index: s.events.Add(1) - 1, Time: at, What: what}
	return room.statement.Index, s.agent.cfg.Audit.Stream(s.recording, &room.statement)
}

// eventRoom has room for one event of each kind that comes often: there are up to four
// for each statement.
type eventRoom struct {
	statement audit.Statement
	query     audit.DatabaseQuery
	parse     audit.StatementParse
	bind      audit.StatementBind
	execute   audit.StatementExecute
	result    audit.DatabaseResult
	values    []*string
}

var eventRooms = sync.Pool{New: func() any { return new(eventRoom) }}

func (s *session) requestEvent(room *eventRoom, q *pgwire.Request) audit.StatementEvent {
	switch q.Kind {
	case pgwire.KindQuery:
		text, short := s.text(q)
		room.query = audit.DatabaseQuery{Outcome: audit.Outcome{Success: true}, Query: text, Shortened: short}
		return &room.query
	case pgwire.KindParse:
		text, short := s.text(q)
		room.parse = audit.StatementParse{StatementName: q.Name, Query: text, Shortened: short}
		return &room.parse
	case pgwire.KindBind:
		values, sizes, short := s.values(room, q)
		room.bind = audit.StatementBind{StatementName: q.Name, PortalName: q.Portal, Parameters: values, Sizes: sizes, Shortened: short}
		return &room.bind
	case pgwire.KindExecute:
		room.execute.PortalName = q.Portal
		return &room.execute
	case pgwire.KindClose:
		return &audit.StatementClose{StatementName: q.Name, PortalName: q.Portal}
	default:
		values, sizes, short := s.values(room, q)
		return &audit.FunctionCall{FunctionOID: q.Function, Arguments: values, Sizes: sizes, Shortened: short}
	}
}

// text returns a statement as policy wants it recorded: without its secrets, or
// only its first word. A hash would help to guess what was left out, so there is
// one of whole statements only.
func (s *session) text(q *pgwire.Request) (string, audit.Shortened) {
	if s.decision.Limits.Record == resource.RecordTag {
		return audit.CommandWord(q.Text.Value), audit.Shortened{}
	}
	text := q.Text.Value
	if q.Secret { // of any other nothing has to be taken out
		text = audit.Redact(text)
	}
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
func (s *session) values(room *eventRoom, q *pgwire.Request) (values []*string, sizes []int, short audit.Shortened) {
	if s.decision.Limits.Record == resource.RecordTag {
		return nil, nil, audit.Shortened{}
	}
	values = room.values[:0]
	if q.Withheld {
		hidden := withheld
		for range q.Count {
			values = append(values, &hidden)
		}
		return values, nil, audit.Shortened{Truncated: q.ParamsCut}
	}
	cut := q.ParamsCut
	for i := range q.Params {
		p := &q.Params[i]
		text := &p.Text
		if p.Null {
			text = nil
		}
		values = append(values, text)
		cut = cut || p.Truncated
	}
	if len(values) <= maxRoomValues {
		room.values = values
	}
	if !cut {
		return values, nil, audit.Shortened{}
	}
	for _, p := range q.Params {
		sizes = append(sizes, p.Length)
	}
	return values, sizes, audit.Shortened{Truncated: true, FullSize: int64(q.Size), FullHash: hex.EncodeToString(q.Digest)}
}
