package agent_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestParallelSets runs sessions of one person with different db roles side by
// side: none gains or loses anything through the others.
func TestParallelSets(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	p := env.Hire(t, "sets", "keep", "sets_reader", "sets_writer")
	subset := func(roles ...string) identity.Route {
		return identity.Route{Database: testenv.Database, DatabaseName: "postgres", DatabaseRole: roles}
	}
	whole := testenv.Connect(t, p.Proxy(t, subset()))
	reader := testenv.Connect(t, p.Proxy(t, subset("sets_reader")))
	sameReader := testenv.Connect(t, p.Proxy(t, subset("sets_reader")))
	writer := testenv.Connect(t, p.Proxy(t, subset("sets_writer")))

	const held = `SELECT COALESCE(string_agg(roleid::regrole::text, ' ' ORDER BY roleid::regrole::text), '')
		FROM pg_auth_members WHERE member = current_user::regrole AND roleid::regrole::text LIKE 'sets%'`
	for _, test := range []struct{ name, got, want string }{
		{"all roles", text(t, whole, held), "sets_reader sets_writer"},
		{"all roles, account", text(t, whole, "SELECT current_user::text"), "sets"},
		{"reader", text(t, reader, held), "sets_reader"},
		{"reader again", text(t, sameReader, held), "sets_reader"},
		{"writer", text(t, writer, held), "sets_writer"},
	} {
		if test.got != test.want {
			t.Errorf("%s: %q, want %q", test.name, test.got, test.want)
		}
	}
	sibling := text(t, reader, "SELECT current_user::text")
	if !strings.HasPrefix(sibling, "sets#") || sibling != text(t, sameReader, "SELECT current_user::text") {
		t.Errorf("sessions with equal roles run as %s and %s", sibling, text(t, sameReader, "SELECT current_user::text"))
	}
	testenv.Close(t, whole)
	testenv.Eventually(t, "the own account is released", func() bool { return !env.Account(t, "sets").Login })
	if got := text(t, reader, held); got != "sets_reader" {
		t.Errorf("after the other session ended the reader holds %q", got)
	}
	testenv.Close(t, reader)
	testenv.Close(t, sameReader)
	testenv.Eventually(t, "the sibling is gone", func() bool { return !env.Account(t, sibling).Exists })
}

// TestParallelSetsRefused keeps to one set of db roles at a time.
func TestParallelSetsRefused(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.DBRole(t, "one_reader", "one_writer")
	env.Apply(t, `{kind: role, version: v7, metadata: {name: one}, spec: {options: {create_db_user_mode: keep, parallel_sets: refuse},
		allow: {db_labels: {"*": "*"}, db_names: ["*"], db_roles: [one_reader, one_writer]}}}`)
	env.AddUser(t, "one", []string{"one"}, nil)
	p := env.As(t, "one")
	conn := p.Connect(t, testenv.Database, "postgres")
	refused := testenv.Refused(t, p.Proxy(t, identity.Route{Database: testenv.Database, DatabaseName: "postgres", DatabaseRole: []string{"one_reader"}}))
	if !slices.Contains(strings.FieldsFunc(refused.Detail, func(c rune) bool { return c < '0' || c > '9' }), text(t, conn, "SELECT pg_backend_pid()::text")) {
		t.Errorf("the refusal does not name the session in the way: %+v", refused)
	}
	if got := text(t, conn, "SELECT count(*)::text FROM pg_auth_members WHERE member = current_user::regrole"); got != "3" {
		t.Errorf("the session in the way holds %s memberships now", got)
	}
}
