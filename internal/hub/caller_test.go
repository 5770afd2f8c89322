package hub_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// route is one row of the API, called with an empty request.
type route struct {
	path string
	who  api.Caller
	call func(context.Context, *api.Client) error
}

func row[In, Out any](e api.Endpoint[In, Out]) route {
	return route{e.Path, e.Caller, func(ctx context.Context, c *api.Client) error {
		var in In
		_, err := e.Call(ctx, c, in)
		return err
	}}
}

func routes() []route {
	return []route{
		row(api.Ping()), row(api.Login()), row(api.ListDatabases()), row(api.IssueDatabaseCertificate()),
		row(api.PutResources()), row(api.ListResources()), row(api.DeleteResource()), row(api.AddUser()),
		row(api.ResetUser()), row(api.SignDatabaseServer()), row(api.ExportAuthority()), row(api.Status()),
		row(api.ServedDatabases()), row(api.DoctorDatabase()), row(api.PreviewDiscovery()),
		row(api.DriftDatabase()), row(api.PlanDatabase()), row(api.VerifyAudit()),
		row(api.FreezeDatabase()), row(api.UnfreezeDatabase()),
	}
}

// TestCallerOfEveryRoute: who may not call is told so before anything of the
// request is looked at.
func TestCallerOfEveryRoute(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, testenv.Role("callers", "keep"))
	env.AddUser(t, "caller", []string{"callers"}, nil)
	person := env.As(t, "caller")
	bound := person.DatabaseCertificate(t, identity.Route{Database: "example"})
	callers := []struct {
		name   string
		client *api.Client
		may    []api.Caller
	}{
		{"anonymous", env.API(t), []api.Caller{api.Anyone}},
		{"logged in", env.API(t, person.Certificate(t)), []api.Caller{api.Anyone, api.LoggedIn}},
		{"with a certificate for a database", env.API(t, bound), []api.Caller{api.Anyone}},
		{"owner", env.Admin(), []api.Caller{api.Anyone, api.LoggedIn, api.HubOwner}},
	}
	for _, c := range callers {
		for _, r := range routes() {
			t.Run(c.name+" "+r.path, func(t *testing.T) {
				t.Parallel()
				err := r.call(t.Context(), c.client)
				if slices.Contains(c.may, r.who) {
					if isRefused(err) && r.path != api.Login().Path && c.name != "owner" {
						t.Errorf("refused: %v", err)
					}
				} else if !isRefused(err) {
					t.Errorf("got %v, want a refusal", err)
				}
			})
		}
	}
}

func isRefused(err error) bool {
	return err != nil && (fault.KindOf(err) == fault.Denied || fault.KindOf(err) == fault.Unauthenticated)
}

// TestEveryRouteIsInTheTable keeps [routes] complete.
func TestEveryRouteIsInTheTable(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/reference/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for path := range document.Paths {
		want = append(want, path)
	}
	for _, r := range routes() {
		got = append(got, r.path)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-documented +tested):\n%s", diff)
	}
}

// TestAuditStreamIsForTheOwner, as it is no row of the table.
func TestAuditStreamIsForTheOwner(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.AddUser(t, "curious", nil, nil)
	for name, client := range map[string]*api.Client{"anonymous": env.API(t), "logged in": env.API(t, env.As(t, "curious").Certificate(t))} {
		if _, err := client.Audit(t.Context(), api.AuditQuery{Lines: 10}); !isRefused(err) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	stream, err := env.Admin().Audit(t.Context(), api.AuditQuery{Lines: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var event testenv.Event
	if err := json.NewDecoder(stream).Decode(&event); err != nil || event.Text("event") == "" {
		t.Errorf("got %v, %v", event, err)
	}
}

// TestHealthPagesNeedNoCaller.
func TestHealthPagesNeedNoCaller(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 404, "/v1/nothing": 404, "/openapi.json": 404, "/docs": 404} {
		if got := env.Get(t, path); got != want {
			t.Errorf("%s answers %d, want %d", path, got, want)
		}
	}
}
