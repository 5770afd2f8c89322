package hub

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
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
	databases := append([]api.DatabaseHealth{}, s.agents.Health()...) // never null
	view, _ := s.View()
	for i := range databases {
		databases[i].Frozen = view.Frozen(databases[i].Name)
	}
	return api.StatusResponse{
		Cluster: s.cfg.Cluster, Version: s.cfg.Version, Address: s.cfg.PublicAddr, CAPin: s.CAPin(),
		Parts: s.cfg.Parts, Sessions: s.agents.Sessions(),
		Databases: databases,
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

func writeError(w http.ResponseWriter, err error) {
	e := api.ErrorOf(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
}
