package hub

import (
	"context"
	"net/http"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

// verifyAudit checks the chain of the log while it is being written.
func (s *Server) verifyAudit(ctx context.Context, _ caller, _ api.Empty) (audit.Report, error) {
	return audit.Verify(ctx, s.cfg.AuditDir)
}

// streamAudit writes events of the log, one JSON object per line.
func (s *Server) streamAudit(w http.ResponseWriter, r *http.Request) {
	if err := callerOf(r.Context()).may(api.HubOwner); err != nil {
		writeError(w, err)
		return
	}
	q, err := api.ParseAuditQuery(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	from, err := s.auditStart(r.Context(), q.Lines)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := s.writeAudit(w, r, from, q); err != nil {
		if r.Context().Err() == nil {
			s.log.Warn("audit stream ended", "error", fault.Chain(err))
		}
		// An end like any other would look as if this were all.
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) writeAudit(w http.ResponseWriter, r *http.Request, from uint64, q api.AuditQuery) error {
	out := http.NewResponseController(w)
	records := audit.Read
	if q.Follow {
		records = audit.Follow
		if err := out.Flush(); err != nil { // so that the caller knows that it is being served
			return err
		}
	}
	for record, err := range records(r.Context(), s.cfg.AuditDir, from, q.Filter) {
		if err == nil {
			_, err = w.Write(append(record.Raw, '\n'))
		}
		if err == nil && q.Follow {
			err = out.Flush()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// auditStart returns the sequence number from which the last lines are read, or all
// where lines is negative.
func (s *Server) auditStart(ctx context.Context, lines int) (uint64, error) {
	end, err := audit.End(ctx, s.cfg.AuditDir)
	if err != nil {
		return 0, err
	}
	if lines < 0 || uint64(lines) >= end {
		return 1, nil
	}
	return end - uint64(lines) + 1, nil
}
