package hub

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
)

// defaultServerTTL is the life of a database's server certificate: 90 days, as in
// the documents that people follow.
const defaultServerTTL = 2190 * time.Hour

// signDatabaseServer issues a server certificate for PostgreSQL.
func (s *Server) signDatabaseServer(ctx context.Context, who caller, in api.SignDatabaseServerRequest) (api.SignDatabaseServerResponse, error) {
	var none api.SignDatabaseServerResponse
	pub, err := ca.ParseCSR([]byte(in.CSR))
	if err != nil {
		return none, err
	}
	cert, err := s.cas.database.IssueDatabaseServer(in.Hosts, pub, lifetime(in.TTLSeconds, defaultServerTTL, 10*year))
	if err != nil {
		return none, err
	}
	err = s.cfg.Audit.Emit(ctx, audit.CertificateCreate{
		Actor: s.actor(who), CertType: string(ca.Database), Subject: in.Hosts[0], Names: in.Hosts,
		Serial: cert.SerialNumber.Text(16), Expires: audit.Time{Time: cert.NotAfter},
	})
	if err != nil {
		return none, err
	}
	return api.SignDatabaseServerResponse{
		Certificate: string(ca.EncodeCertificates(cert, s.cas.database.Certificate())),
		ClientCAs:   string(ca.EncodeCertificates(s.cas.databaseClient.Certificate())),
		Expires:     cert.NotAfter,
	}, nil
}

func (s *Server) exportAuthority(_ context.Context, _ caller, in api.ExportAuthorityRequest) (api.ExportAuthorityResponse, error) {
	a, err := s.cas.byExportName(in.Type)
	if err != nil {
		return api.ExportAuthorityResponse{}, err
	}
	return api.ExportAuthorityResponse{Certificates: string(ca.EncodeCertificates(a.Certificate()))}, nil
}

func (s *Server) status(context.Context, caller, api.Empty) (api.StatusResponse, error) {
	return api.StatusResponse{
		Cluster: s.cfg.Cluster, Version: s.cfg.Version, Address: s.cfg.PublicAddr, CAPin: s.CAPin(),
		Parts: s.cfg.Parts, Sessions: s.agents.Sessions(),
		Databases: append([]api.DatabaseHealth{}, s.agents.Health()...), // never null
	}, nil
}

// healthz answers as long as the process does.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
}

// readyz answers whether sessions can be served: the state can be read and events
// can be written.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	err := s.cfg.Audit.Err()
	if err == nil {
		_, err = s.cfg.Store.Get(r.Context(), clusterKey)
	}
	if err != nil {
		s.log.Error("not ready", "error", fault.Chain(err))
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// streamAudit writes the last events of the log, and with follow=1 those that
// come, one JSON object per line.
func (s *Server) streamAudit(w http.ResponseWriter, r *http.Request) {
	if err := callerOf(r.Context()).may(api.HubOwner); err != nil {
		writeError(w, err)
		return
	}
	lines, err := strconv.Atoi(r.URL.Query().Get("lines"))
	if err != nil || lines < 0 {
		lines = 0
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	from, err := s.auditStart(r.Context(), lines)
	if err != nil {
		writeError(w, err)
		return
	}
	records := audit.Read
	if r.URL.Query().Get("follow") == "1" {
		records = audit.Follow
	}
	for record, err := range records(r.Context(), s.cfg.AuditDir, from, audit.Filter{}) {
		if err == nil {
			_, err = w.Write(append(record.Raw, '\n'))
		}
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			if r.Context().Err() == nil {
				s.log.Warn("audit stream ended", "error", fault.Chain(err))
			}
			return
		}
	}
}

// auditStart returns the sequence number from which the last lines are read.
func (s *Server) auditStart(ctx context.Context, lines int) (uint64, error) {
	end, err := audit.End(ctx, s.cfg.AuditDir)
	if err != nil {
		return 0, err
	}
	if uint64(lines) >= end {
		return 1, nil
	}
	return end - uint64(lines) + 1, nil
}

func writeError(w http.ResponseWriter, err error) {
	e := api.ErrorOf(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
}
