package hub_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/testenv"
)

// TestDatabasesAreNarrowedDown by labels, words and expressions, and never to more
// than the person may see.
func TestDatabasesAreNarrowedDown(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	database := func(name, team, description string) string {
		return "kind: db\nversion: v3\nmetadata: {name: " + name + ", description: " + description + ", labels: {kind: narrow, team: " + team + "}}\nspec: {protocol: postgres, uri: 'localhost:1'}"
	}
	env.Apply(t, database("narrow-a", "red", "Orders"), database("narrow-b", "blue", "Wages"), database("narrow-c", "green", "Orders"), `kind: role
version: v7
metadata: {name: narrow}
spec: {allow: {db_labels: {kind: narrow, team: [red, blue]}, db_names: ["*"], db_users: ["*"]}}`)
	env.AddUser(t, "narrow", []string{"narrow"}, map[string][]string{"team": {"blue"}})
	client := env.API(t, env.As(t, "narrow").Certificate(t))
	list := func(req api.ListDatabasesRequest) ([]string, error) {
		resp, err := api.ListDatabases().Call(t.Context(), client, req)
		names := []string{}
		for _, d := range resp.Databases {
			names = append(names, d.Name)
		}
		slices.Sort(names)
		return names, err
	}
	for _, tt := range []struct {
		request api.ListDatabasesRequest
		want    []string
	}{
		{api.ListDatabasesRequest{}, []string{"narrow-a", "narrow-b"}},
		{api.ListDatabasesRequest{Labels: map[string]string{"team": "red"}}, []string{"narrow-a"}},
		{api.ListDatabasesRequest{Labels: map[string]string{"team": "green"}}, []string{}},
		{api.ListDatabasesRequest{Search: []string{"orders"}}, []string{"narrow-a"}},
		{api.ListDatabasesRequest{Query: `labels["team"] == "blue" || labels["team"] == "green"`}, []string{"narrow-b"}},
		{api.ListDatabasesRequest{Query: `contains(user.spec.traits["team"], labels["team"])`}, []string{"narrow-b"}},
		{api.ListDatabasesRequest{Query: `labels["team"] == "blue"`, Name: "narrow-a"}, []string{}},
		{api.ListDatabasesRequest{Query: `email.local(labels["team"]) == "x"`}, []string{}}, // cannot be evaluated
	} {
		got, err := list(tt.request)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%+v: %v (-want +got):\n%s", tt.request, err, diff)
		}
	}
	if _, err := list(api.ListDatabasesRequest{Query: `labels["team"] = "blue"`}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a wrong expression: %v", err)
	}
}
