package agent

import (
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// recordOutcome puts on record what became of a request.
func (s *session) recordOutcome(st *pgwire.Statement) error {
	room := eventRooms.Get().(*eventRoom)
	defer eventRooms.Put(room)
	_, err := s.stream(room, st.End, s.outcomeEvent(room, st))
	return err
}

func (s *session) outcomeEvent(room *eventRoom, st *pgwire.Statement) audit.StatementEvent {
	if st.Outcome == pgwire.Copying {
		return &audit.CopyStart{Direction: st.Copy.String(), RequestIndex: st.ID}
	}
	room.result = audit.DatabaseResult{
		Outcome: s.outcome(st),
		Request: st.Kind.String(), Became: st.Outcome.String(),
		RequestIndex: st.ID, ParseIndex: st.ParseID, BindIndex: st.BindID,
		StatementName: st.Name, PortalName: st.Portal,
		Tags: st.Tags, AffectedRecords: uint64(max(st.Rows, 0)), CopyBytes: st.CopyBytes, SQLState: st.SQLState,
		TxStatus: string(st.TxStatus), DurationMS: float64(st.Duration/time.Microsecond) / 1000,
	}
	return &room.result
}

// outcome says how it went. PostgreSQL's messages quote statements and values, so
// they are recorded where those are.
func (s *session) outcome(st *pgwire.Statement) audit.Outcome {
	o := audit.Outcome{Success: st.Outcome == pgwire.Done || st.Outcome == pgwire.Suspended}
	if !st.Secret && s.decision.Limits.Record == resource.RecordFull {
		o.Message = st.Message
	}
	return o
}
