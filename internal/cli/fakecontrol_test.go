package cli_test

import (
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
)

// controlRoutes answers what the hub's owner may call.
func (h *fakeHub) controlRoutes(mux *http.ServeMux) {
	handle(mux, api.Status(), func(*http.Request, api.Empty) (api.StatusResponse, error) {
		return api.StatusResponse{
			Cluster: testCluster, Version: "test", Address: "hub.example.com:3080", CAPin: "sha256:00", Parts: []string{"hub", "agent"}, Sessions: 2,
			Databases: []api.DatabaseHealth{{Name: "example", Status: "unhealthy", Message: "connection\x1b[31m refused"}},
		}, nil
	})
	handle(mux, api.DoctorDatabase(), examine)
	handle(mux, api.PlanDatabase(), foretell)
	handle(mux, api.DriftDatabase(), compare)
	handle(mux, api.PreviewDiscovery(), func(*http.Request, api.Empty) (api.PreviewDiscoveryResponse, error) {
		return api.PreviewDiscoveryResponse{Searches: []api.DiscoverySearch{
			{
				Search:    "eu-west-1",
				Databases: []api.DiscoveredDatabase{{Name: "orders", URI: "orders:5432", AdminUser: "boss"}, {Name: "orders-reader", URI: "copy:5432", Writer: "orders:5432"}},
				Skipped:   []api.SkippedDatabase{{Name: "later", Why: "its status is creating"}},
			},
			{Search: "us-east-1", Error: "the databases in us-east-1 cannot be listed", Detail: "Amazon answers AccessDenied", Hint: "Allow the agent's AWS identity rds:DescribeDBClusters."},
		}}, nil
	})
	handle(mux, api.PutResources(), h.put)
	handle(mux, api.ListResources(), func(_ *http.Request, in api.ListResourcesRequest) (api.ListResourcesResponse, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		var out api.ListResourcesResponse
		for _, r := range h.resources {
			if r.Kind == in.Kind && (in.Name == "" || in.Name == r.Name) {
				out.Resources = append(out.Resources, r)
			}
		}
		return out, nil
	})
	handle(mux, api.DeleteResource(), func(_ *http.Request, in api.DeleteResourceRequest) (api.Empty, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		before := len(h.resources)
		h.resources = slices.DeleteFunc(h.resources, func(r api.Resource) bool { return r.Kind == in.Kind && r.Name == in.Name })
		if len(h.resources) == before {
			return api.Empty{}, fault.Newf(fault.NotFound, "%s %q does not exist", in.Kind, in.Name)
		}
		return api.Empty{}, nil
	})
	handle(mux, api.AddUser(), func(_ *http.Request, in api.AddUserRequest) (api.InvitationResponse, error) {
		if in.Password != "" {
			return api.InvitationResponse{}, nil
		}
		return api.InvitationResponse{Invitation: "an-invitation", Expires: time.Now().Add(time.Hour)}, nil
	})
	handle(mux, api.ResetUser(), func(_ *http.Request, in api.ResetUserRequest) (api.InvitationResponse, error) {
		if in.Name != "alice" {
			return api.InvitationResponse{}, fault.Newf(fault.NotFound, "user %q does not exist", in.Name)
		}
		return api.InvitationResponse{Invitation: "an-invitation", Expires: time.Now().Add(time.Hour)}, nil
	})
	handle(mux, api.SignDatabaseServer(), func(_ *http.Request, in api.SignDatabaseServerRequest) (api.SignDatabaseServerResponse, error) {
		if _, err := ca.ParseCSR([]byte(in.CSR)); err != nil {
			return api.SignDatabaseServerResponse{}, err
		}
		return api.SignDatabaseServerResponse{Certificate: "certificate for " + in.Hosts[0] + "\n", ClientCAs: "client CAs\n", Expires: time.Now().Add(time.Duration(in.TTLSeconds) * time.Second)}, nil
	})
	handle(mux, api.ExportAuthority(), func(_ *http.Request, in api.ExportAuthorityRequest) (api.ExportAuthorityResponse, error) {
		return api.ExportAuthorityResponse{Certificates: "CA of " + in.Type + "\n"}, nil
	})
	mux.HandleFunc("GET "+api.AuditPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, h.events)
	})
}

// examine finds something of every kind on example, nothing serious on legacy,
// and nothing on other databases.
func examine(_ *http.Request, in api.DoctorDatabaseRequest) (api.DoctorDatabaseResponse, error) {
	out := api.DoctorDatabaseResponse{Findings: []api.Finding{}}
	group := `CREATE ROLE "teleport-auto-user" NOLOGIN;`
	advice := api.Finding{Severity: "advice", Check: "superuser", Problem: `the admin user "a" is a superuser`, Advice: "use one\nof its own"}
	switch in.Name {
	case "missing":
		return out, fault.Newf(fault.NotFound, "database %q not found", in.Name)
	case "legacy":
		out.Findings = append(out.Findings, advice)
	case "example":
		out.Findings = append(out.Findings,
			api.Finding{Severity: api.SeverityError, Check: "namesake", Problem: "role \x1b[31m exists", Breaks: "al is refused", SQL: []string{group, `GRANT "g" TO "al";`}, Advice: "rename"},
			api.Finding{Severity: api.SeverityError, Check: "namesake", Problem: "role bo exists", Breaks: "bo is refused", SQL: []string{group, `GRANT "g" TO "bo";`}},
			api.Finding{Severity: "warning", Check: "login", Problem: "no line", HBA: []string{"hostssl all all ::/0 cert", "hostssl all all 0.0.0.0/0 cert"}},
			advice)
	}
	return out, nil
}

// foretell plans something of every kind on example, and nothing on other databases.
func foretell(r *http.Request, in api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error) {
	out := api.PlanDatabaseResponse{Mode: "keep", DatabaseName: in.DatabaseName, DatabaseUser: in.User, DatabaseRoles: in.DatabaseRoles, Exists: true, Sessions: 2}
	if r.TLS != nil {
		out.DatabaseUser = "oneself"
	}
	if in.Name == "example" {
		out.Exists, out.Sessions, out.Bundle = false, 0, "postern-bundle-1"
		out.Steps = []api.PlanStep{{SQL: `CREATE ROLE "al"`, Why: "it does not\x1bexist"}, {SQL: `GRANT "reader" TO "al"`, Why: "db_roles: role readers"}}
		out.Missing, out.MissingHint = "SELECT on t1", "run as superuser: GRANT SELECT"
	}
	return out, nil
}

// compare finds something of every kind on example, and nothing on other databases.
func compare(_ *http.Request, in api.DriftDatabaseRequest) (api.DriftDatabaseResponse, error) {
	out := api.DriftDatabaseResponse{Deviations: []api.Deviation{}}
	if in.Name == "example" {
		out.Deviations = append(out.Deviations,
			api.Deviation{
				Role: "al", Check: "direct", Problem: "was granted rights", Matters: "it has them", Repair: "an agent", Database: "my ",
				SQL: []string{`REVOKE SELECT ON t1 FROM "al";`, `REVOKE SELECT ON t2 FROM "al";`},
			},
			api.Deviation{Role: "al", Check: "direct", Problem: "odd\x1b[31m", Matters: "much"},
			api.Deviation{Role: "bo", Check: "orphan", Problem: "belongs to no user", Matters: "clutter", SQL: []string{`DROP ROLE "bo";`}})
	}
	return out, nil
}

func (h *fakeHub) put(_ *http.Request, in api.PutResourcesRequest) (api.PutResourcesResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out api.PutResourcesResponse
	for _, r := range in.Resources {
		i := slices.IndexFunc(h.resources, func(o api.Resource) bool { return o.Kind == r.Kind && o.Name == r.Name })
		if i >= 0 && !in.Replace {
			return out, fault.Newf(fault.Conflict, "%s %q exists already", r.Kind, r.Name)
		}
		if r.Revision != 0 && (i < 0 || h.resources[i].Revision != r.Revision) {
			return out, fault.Newf(fault.Conflict, "%s %q was changed by somebody else", r.Kind, r.Name)
		}
		h.revision++
		r.Revision = h.revision
		if i >= 0 {
			h.resources[i] = r
		} else {
			h.resources = append(h.resources, r)
		}
		out.Results = append(out.Results, api.PutResult{Kind: r.Kind, Name: r.Name, Created: i < 0})
	}
	return out, nil
}
