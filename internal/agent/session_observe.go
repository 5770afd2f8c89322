package agent

import (
	"context"
	"encoding/base64"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// observedBody is how much of one request is looked at: as much as an audit event
// keeps of a statement.
const observedBody = 1 << 20

// observe returns what the relay shows us: the client's requests, each before it
// is sent on. One that cannot be put on record does not reach PostgreSQL. It is
// nil where policy wants statements not recorded.
func (s *session) observe(ctx context.Context) *pgwire.Observe {
	if s.decision.Limits.Record == resource.RecordNone {
		return nil
	}
	o := &pgwire.Observe{Limit: observedBody, Frame: func(f pgwire.Frame) error { return s.record(ctx, f) }}
	o.Bodies[pgwire.ToServer] = pgwire.Types("QPBECF")
	return o
}

// record writes the event of one request. Requests come from one goroutine.
func (s *session) record(ctx context.Context, f pgwire.Frame) error {
	event, err := s.requestEvent(f)
	if err != nil {
		malformed := audit.MalformedPacket{Session: s.next(), Database: s.auditDatabase(), Error: err.Error()}
		if err := s.agent.cfg.Audit.Post(ctx, malformed); err != nil {
			return err
		}
		return err
	}
	return s.agent.cfg.Audit.Post(ctx, event)
}

func (s *session) requestEvent(f pgwire.Frame) (audit.Event, error) {
	switch f.Type {
	case 'Q':
		query, err := pgwire.DecodeQuery(f)
		return audit.DatabaseQuery{
			Session: s.next(), Database: s.auditDatabase(), Outcome: audit.Outcome{Success: true},
			Query: s.text(query.Value), Shortened: shortened(query.Truncated(), query.Length),
		}, err
	case 'P':
		parse, err := pgwire.DecodeParse(f)
		return audit.StatementParse{
			Session: s.next(), Database: s.auditDatabase(),
			StatementName: parse.Statement, Query: s.text(parse.Query.Value), Shortened: shortened(parse.Query.Truncated(), parse.Query.Length),
		}, err
	case 'B':
		bind, err := pgwire.DecodeBind(f)
		return audit.StatementBind{
			Session: s.next(), Database: s.auditDatabase(),
			StatementName: bind.Statement, PortalName: bind.Portal, Parameters: s.values(bind.Values), Shortened: shortened(bind.Truncated, f.Length),
		}, err
	case 'E':
		execute, err := pgwire.DecodeExecute(f)
		return audit.StatementExecute{Session: s.next(), Database: s.auditDatabase(), PortalName: execute.Portal}, err
	case 'C':
		target, err := pgwire.DecodeTarget(f)
		event := audit.StatementClose{Session: s.next(), Database: s.auditDatabase()}
		if target.Portal {
			event.PortalName = target.Name
		} else {
			event.StatementName = target.Name
		}
		return event, err
	}
	call, err := pgwire.DecodeFunctionCall(f)
	return audit.FunctionCall{
		Session: s.next(), Database: s.auditDatabase(),
		FunctionOID: call.OID, Arguments: s.values(call.Args), Shortened: shortened(call.Truncated, f.Length),
	}, err
}

// shortened marks an event whose text was longer than what is looked at.
func shortened(truncated bool, size int) audit.Shortened {
	if !truncated {
		return audit.Shortened{}
	}
	return audit.Shortened{Truncated: true, FullSize: int64(size)}
}

// text returns a statement as policy wants it recorded: without its secrets, or
// only its first word.
func (s *session) text(sql string) string {
	if s.decision.Limits.Record == resource.RecordTag {
		return audit.CommandWord(sql)
	}
	return audit.Redact(sql)
}

// values returns arguments as text: text as it was sent, binary values in base64.
func (s *session) values(values []pgwire.Value) []string {
	if s.decision.Limits.Record == resource.RecordTag {
		return nil
	}
	var texts []string
	for _, v := range values {
		switch {
		case v.Null:
			texts = append(texts, "NULL")
		case v.Binary:
			texts = append(texts, base64.StdEncoding.EncodeToString(v.Data))
		default:
			texts = append(texts, string(v.Data))
		}
	}
	return texts
}
