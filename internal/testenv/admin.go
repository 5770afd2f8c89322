package testenv

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/resource"
)

// Role returns a role in YAML that reaches every database with the db roles.
func Role(name, mode string, dbRoles ...string) string {
	list := ""
	for _, r := range dbRoles {
		list += fmt.Sprintf("\n    - %q", r)
	}
	if list == "" {
		list = " []"
	}
	return fmt.Sprintf(`kind: role
version: v7
metadata:
  name: %s
spec:
  options:
    create_db_user_mode: %q
  allow:
    db_labels: {"*": "*"}
    db_names: ["*"]
    db_roles:%s
`, name, mode, list)
}

// Apply creates or replaces resources. Several are separated by lines of "---".
func (e *Env) Apply(t testing.TB, documents ...string) {
	t.Helper()
	if err := e.TryApply(t, strings.Join(documents, "\n---\n")); err != nil {
		t.Fatal(err)
	}
}

// TryApply is [Env.Apply] for a test that looks at the error.
func (e *Env) TryApply(t testing.TB, yaml string) error {
	t.Helper()
	all, err := resource.Parse("test.yaml", []byte(yaml))
	if err != nil {
		return err
	}
	request := api.PutResourcesRequest{Replace: true}
	for _, r := range all {
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		request.Resources = append(request.Resources, api.Resource{Kind: r.GetKind(), Name: r.GetName(), Body: body})
	}
	_, err = api.PutResources().Call(t.Context(), e.Admin(), request)
	return err
}

// Remove deletes a resource.
func (e *Env) Remove(t testing.TB, kind, name string) {
	t.Helper()
	if _, err := api.DeleteResource().Call(t.Context(), e.Admin(), api.DeleteResourceRequest{Kind: kind, Name: name}); err != nil {
		t.Fatal(err)
	}
}

// AddUser creates a user with [Password].
func (e *Env) AddUser(t testing.TB, name string, roles []string, traits map[string][]string) {
	t.Helper()
	request := api.AddUserRequest{Name: name, Roles: roles, Traits: traits, Password: Password}
	if _, err := api.AddUser().Call(t.Context(), e.Admin(), request); err != nil {
		t.Fatal(err)
	}
}

// Hire makes everything that a person needs to work: the db roles in PostgreSQL,
// a role that hands them out, called as the person, and the person.
func (e *Env) Hire(t testing.TB, name, mode string, dbRoles ...string) *Person {
	t.Helper()
	e.DBRole(t, dbRoles...)
	e.Apply(t, Role(name, mode, dbRoles...))
	e.AddUser(t, name, []string{name}, nil)
	return e.As(t, name)
}

// Event is a line of the audit log.
type Event map[string]any

// Text returns a field that is text, or "".
func (e Event) Text(key string) string {
	s, _ := e[key].(string)
	return s
}

// Audit returns the events that match so far, in order.
func (e *Env) Audit(t testing.TB, f audit.Filter) []Event {
	t.Helper()
	var all []Event
	for record, err := range audit.Read(t.Context(), e.AuditDir(), 1, f) {
		if err != nil {
			t.Fatal(err)
		}
		var event Event
		if err := json.Unmarshal(record.Raw, &event); err != nil {
			t.Fatal(err)
		}
		all = append(all, event)
	}
	return all
}

// AwaitAudit waits until at least n events match and returns them.
func (e *Env) AwaitAudit(t testing.TB, n int, f audit.Filter) []Event {
	t.Helper()
	var all []Event
	Eventually(t, fmt.Sprintf("%d events %v", n, f), func() bool {
		all = e.Audit(t, f)
		return len(all) >= n
	})
	return all
}

// Sessions returns how many database sessions are open.
func (e *Env) Sessions(t testing.TB) int {
	t.Helper()
	status, err := api.Status().Call(t.Context(), e.Admin(), api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	return status.Sessions
}
