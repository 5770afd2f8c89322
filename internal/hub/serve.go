package hub

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

// caller is who makes a call: proven, not claimed.
type caller struct {
	identity identity.Identity // zero unless a login certificate was verified
	owner    bool              // came through the control socket
	refused  error             // why a certificate that was shown is not accepted; nil if none was shown
	addr     string            // remote address
}

// name is how audit events call the caller.
func (c caller) name() string {
	if c.owner {
		return "hub-owner"
	}
	return c.identity.User
}

// may reports whether the caller is allowed the operation.
func (c caller) may(who api.Caller) error {
	switch who {
	case api.Anyone:
		return nil
	case api.LoggedIn:
		if c.owner || c.identity.User != "" {
			return nil
		}
		if c.refused != nil {
			return c.refused
		}
		return fault.New(fault.Unauthenticated, "log in first").WithHint("run: postern login")
	case api.HubOwner:
		if c.owner {
			return nil
		}
	}
	return fault.New(fault.Denied, "this operation is for the administrator of the hub").
		WithHint("run postern ctl on the hub's machine, as the user that runs postern")
}

// connKey is where the connection of a request is found.
type connKey struct{}

type callerKey struct{}

// withCaller proves who calls before anything else looks at a request.
func withCaller(prove func(*http.Request) caller, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, prove(r))))
	})
}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// envelope is how the HTTP framework takes and returns a JSON body.
type envelope[T any] struct{ Body T }

// operation binds a row of the API to what the server does for it. Checking the
// caller, the limits, decoding, encoding and the error table are here, once.
func operation[In, Out any](routes huma.API, log *slog.Logger, row api.Endpoint[In, Out], do func(context.Context, caller, In) (Out, error)) {
	huma.Register(routes, huma.Operation{
		OperationID:     row.ID,
		Method:          http.MethodPost,
		Path:            row.Path,
		Summary:         row.Summary,
		Description:     "For " + string(row.Caller) + ".",
		MaxBodyBytes:    row.MaxBody,
		BodyReadTimeout: row.Timeout,
		Errors:          []int{401, 403, 404, 409, 422, 500, 503},
	}, func(ctx context.Context, in *envelope[In]) (*envelope[Out], error) {
		ctx, cancel := context.WithTimeout(ctx, row.Timeout)
		defer cancel()
		who := callerOf(ctx)
		out, err := func() (Out, error) {
			if err := who.may(row.Caller); err != nil {
				var none Out
				return none, err
			}
			return do(ctx, who, in.Body)
		}()
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				log.Error("call failed", "operation", row.ID, "user", who.name(), "error", fault.Chain(err))
			}
			return nil, api.ErrorOf(err)
		}
		return &envelope[Out]{Body: out}, nil
	})
}

// routes registers every operation on mux and returns their OpenAPI document.
func (s *Server) routes(mux *http.ServeMux) *huma.OpenAPI {
	config := huma.DefaultConfig("Postern", "v1")
	config.DocsPath, config.SchemasPath, config.OpenAPIPath = "", "", ""
	config.CreateHooks = nil // no $schema members in our answers
	r := humago.New(mux, config)
	operation(r, s.log, api.Ping(), s.ping)
	operation(r, s.log, api.Login(), s.login)
	operation(r, s.log, api.ListDatabases(), s.listDatabases)
	operation(r, s.log, api.IssueDatabaseCertificate(), s.issueDatabaseCertificate)
	operation(r, s.log, api.PutResources(), s.putResources)
	operation(r, s.log, api.ListResources(), s.listResources)
	operation(r, s.log, api.DeleteResource(), s.deleteResource)
	operation(r, s.log, api.AddUser(), s.addUser)
	operation(r, s.log, api.ResetUser(), s.resetUser)
	operation(r, s.log, api.SignDatabaseServer(), s.signDatabaseServer)
	operation(r, s.log, api.ExportAuthority(), s.exportAuthority)
	operation(r, s.log, api.Status(), s.status)
	operation(r, s.log, api.ServedDatabases(), s.servedDatabases)
	operation(r, s.log, api.DoctorDatabase(), s.doctorDatabase)
	operation(r, s.log, api.DriftDatabase(), s.driftDatabase)
	operation(r, s.log, api.PlanDatabase(), s.planDatabase)
	operation(r, s.log, api.FreezeDatabase(), s.freezeDatabase)
	operation(r, s.log, api.UnfreezeDatabase(), s.unfreezeDatabase)
	operation(r, s.log, api.VerifyAudit(), s.verifyAudit)
	operation(r, s.log, api.PreviewDiscovery(), s.previewDiscovery)
	mux.HandleFunc("GET "+api.AuditPath, s.streamAudit)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	return r.OpenAPI()
}
