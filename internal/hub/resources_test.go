package hub_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/testenv"
)

// document returns the stored form of YAML.
func document(t *testing.T, yaml string) api.Resource {
	t.Helper()
	all, err := resource.Parse("test.yaml", []byte(yaml))
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	body, err := json.Marshal(all[0])
	if err != nil {
		t.Fatal(err)
	}
	return api.Resource{Kind: all[0].GetKind(), Name: all[0].GetName(), Body: body}
}

func put(t *testing.T, env *testenv.Env, replace bool, resources ...api.Resource) (api.PutResourcesResponse, error) {
	t.Helper()
	return api.PutResources().Call(t.Context(), env.Admin(), api.PutResourcesRequest{Resources: resources, Replace: replace})
}

func stored(t *testing.T, env *testenv.Env, kind, name string) (api.Resource, error) {
	t.Helper()
	out, err := api.ListResources().Call(t.Context(), env.Admin(), api.ListResourcesRequest{Kind: kind, Name: name})
	if err != nil {
		return api.Resource{}, err
	}
	if len(out.Resources) != 1 {
		t.Fatalf("got %d resources", len(out.Resources))
	}
	return out.Resources[0], nil
}

func TestCreateReplaceAndConflict(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	role := document(t, testenv.Role("versioned", "keep", "one"))
	out, err := put(t, env, false, role)
	if err != nil || !out.Results[0].Created {
		t.Fatalf("created: %+v, %v", out, err)
	}
	_, err = put(t, env, false, role)
	if f := fault.Of(err); f.Kind != fault.Conflict || !strings.Contains(f.Text, `role "versioned" already exists`) || !strings.Contains(f.Hint, "--force") {
		t.Errorf("a second time: %v %q %q", f.Kind, f.Text, f.Hint)
	}
	if out, err = put(t, env, true, role); err != nil || out.Results[0].Created {
		t.Errorf("replaced: %+v, %v", out, err)
	}

	seen, err := stored(t, env, "role", "versioned")
	if err != nil {
		t.Fatal(err)
	}
	changed := document(t, testenv.Role("versioned", "keep", "two"))
	changed.Revision = seen.Revision
	if _, err := put(t, env, false, changed); err != nil {
		t.Errorf("with the current revision: %v", err)
	}
	if _, err := put(t, env, true, changed); fault.KindOf(err) != fault.Conflict {
		t.Errorf("with a revision that is not current: %v", err)
	}
	if got, _ := stored(t, env, "role", "versioned"); !strings.Contains(string(got.Body), "two") {
		t.Errorf("stored is %s", got.Body)
	}
	if _, err := api.DeleteResource().Call(t.Context(), env.Admin(), api.DeleteResourceRequest{Kind: "role", Name: "versioned"}); err != nil {
		t.Error(err)
	}
	if _, err := stored(t, env, "role", "versioned"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("deleted: %v", err)
	}
	if _, err := put(t, env, true, changed); fault.KindOf(err) != fault.Conflict {
		t.Errorf("with the revision of what was deleted: %v", err)
	}
}

// TestSeveralResourcesAllOrNothing: one that is refused keeps the others out.
func TestSeveralResourcesAllOrNothing(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	first, taken := document(t, testenv.Role("batch-first", "keep")), document(t, testenv.Role("batch-taken", "keep"))
	if _, err := put(t, env, false, taken); err != nil {
		t.Fatal(err)
	}
	broken := api.Resource{Kind: "role", Name: "batch-broken", Body: json.RawMessage(`{"kind":"role","version":"v7","metadata":{"name":"batch-broken"},"spec":{"allow":{"db_roles":["*"]}}}`)}
	for name, c := range map[string]struct {
		all  []api.Resource
		want fault.Kind
	}{
		"one exists":     {[]api.Resource{first, taken}, fault.Conflict},
		"one is invalid": {[]api.Resource{first, broken}, fault.Invalid},
		"none":           {nil, fault.Invalid},
		"twice the same": {[]api.Resource{first, first}, fault.Invalid},
		"unknown kind":   {[]api.Resource{first, {Kind: "node", Name: "x", Body: json.RawMessage(`{}`)}}, fault.Invalid},
		"another name":   {[]api.Resource{first, {Kind: "user", Name: "x", Body: first.Body}}, fault.Invalid},
	} {
		if _, err := put(t, env, false, c.all...); fault.KindOf(err) != c.want || err == nil {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if _, err := stored(t, env, "role", "batch-first"); fault.KindOf(err) != fault.NotFound {
			t.Fatalf("%s: one of them was kept: %v", name, err)
		}
	}
	if _, err := put(t, env, false, first, document(t, testenv.Role("batch-second", "keep"))); err != nil {
		t.Error(err)
	}
}

func TestUnknownKindAndName(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	if _, err := stored(t, env, "node", ""); fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.Of(err).Hint, "role") {
		t.Errorf("unknown kind: %v", err)
	}
	if _, err := stored(t, env, "role", "nowhere"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("unknown name: %v", err)
	}
	for _, in := range []api.DeleteResourceRequest{{Kind: "role", Name: "nowhere"}, {Kind: "node", Name: "x"}, {}} {
		if _, err := api.DeleteResource().Call(t.Context(), env.Admin(), in); err == nil {
			t.Errorf("deleted %+v", in)
		}
	}
}

// TestDeletedUserTakesThePasswordAlong: whoever gets the name later starts anew,
// and the certificates of the old one count for nothing.
func TestDeletedUserTakesThePasswordAlong(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.AddUser(t, "phoenix", nil, nil)
	person := env.As(t, "phoenix")
	login := env.API(t, person.Certificate(t))
	env.Remove(t, "user", "phoenix")
	if err := person.TryLogin(t, testenv.Password); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("login of a deleted user: %v", err)
	}
	if _, err := api.ListDatabases().Call(t.Context(), login, api.ListDatabasesRequest{}); !isRefused(err) {
		t.Errorf("the certificate of a deleted user: %v", err)
	}
	if _, err := api.AddUser().Call(t.Context(), env.Admin(), api.AddUserRequest{Name: "phoenix"}); err != nil {
		t.Fatal(err)
	}
	if err := person.TryLogin(t, testenv.Password); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("the old password of a user made anew: %v", err)
	}
}

func TestAddUser(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.AddUser(t, "present", nil, nil)
	for name, c := range map[string]struct {
		in   api.AddUserRequest
		want fault.Kind
	}{
		"exists":       {api.AddUserRequest{Name: "present", Password: testenv.Password}, fault.Conflict},
		"no such role": {api.AddUserRequest{Name: "absent", Roles: []string{"no-such-role"}, Password: testenv.Password}, fault.NotFound},
		"no name":      {api.AddUserRequest{Password: testenv.Password}, fault.Invalid},
		"bad password": {api.AddUserRequest{Name: "absent", Password: "x"}, fault.Invalid},
	} {
		if _, err := api.AddUser().Call(t.Context(), env.Admin(), c.in); fault.KindOf(err) != c.want || err == nil {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if _, err := stored(t, env, "user", "absent"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a user was made all the same: %v", err)
	}
}

// TestSeedResourcesLoad as they stand in the seed guide.
func TestSeedResourcesLoad(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	for file, want := range map[string]string{"db.yaml": "db/example", "role-auto-db-users.yaml": "role/auto-db-users", "role-read-all-tables.yaml": "role/read_all_tables"} {
		data, err := os.ReadFile("../../testdata/seed/" + file)
		if err != nil {
			t.Fatal(err)
		}
		env.Apply(t, string(data))
		kind, name, _ := strings.Cut(want, "/")
		if _, err := stored(t, env, kind, name); err != nil {
			t.Error(err)
		}
	}
}
