package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// TestResult is the outcome of one [Test].
type TestResult struct {
	File     string   `json:"file,omitempty"` // where the test is written; for the caller to fill in
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Failures []string `json:"failures,omitempty"`
	Decision Decision `json:"decision"`
}

// RunTests runs the statements of a test file against the policy. Users and
// databases of the file come before those given.
func (p *Policy) RunTests(f *TestFile, users []*resource.User, databases []*resource.Database) []TestResult {
	r := testRun{policy: p}
	for _, u := range f.Users {
		r.users = append(r.users, u.resource())
	}
	for _, d := range f.Databases {
		db := d.resource()
		_ = resource.Validate(db) // ParseTests did; this fills in the defaults
		r.databases = append(r.databases, db)
	}
	r.users, r.databases = append(r.users, users...), append(r.databases, databases...)
	results := make([]TestResult, 0, len(f.Tests))
	for i := range f.Tests {
		results = append(results, r.run(&f.Tests[i]))
	}
	return results
}

// testRun is one run of a test file.
type testRun struct {
	policy    *Policy
	users     []*resource.User
	databases []*resource.Database
}

func (r *testRun) run(t *Test) TestResult {
	q, want := t.statement()
	result := TestResult{Name: t.title()}
	fail := func(format string, args ...any) {
		result.Failures = append(result.Failures, fmt.Sprintf(format, args...))
	}
	u := slices.IndexFunc(r.users, func(u *resource.User) bool { return u.GetName() == q.User })
	d := slices.IndexFunc(r.databases, func(d *resource.Database) bool { return d.GetName() == q.Database })
	if u < 0 {
		fail("there is no user %q", q.User)
	}
	if d < 0 {
		fail("there is no database %q", q.Database)
	}
	if u < 0 || d < 0 {
		return result
	}
	request := Request{
		User: q.User, Roles: r.users[u].Spec.Roles, Traits: r.users[u].Spec.Traits, RemoteCluster: q.Cluster,
		Database: r.databases[d], DatabaseUser: q.DBUser, DatabaseName: q.DBName, DatabaseRoles: q.DBRoles, MFAVerified: q.MFA,
	}
	got := r.policy.Explain(request)
	result.Decision = got
	if got.Outcome != want {
		why := ""
		if err := got.Err(); err != nil {
			why = ": " + err.Error() + " (" + fault.Of(err).Hint + ")"
		}
		fail("want %s, got %s%s", want, got.Outcome, why)
	}
	if t.Because != "" && !got.mentions(t.Because) {
		fail("no reason mentions %q", t.Because)
	}
	if t.With != nil && got.Outcome == Allowed {
		for _, failure := range r.compare(t.With, request, got) {
			fail("%s", failure)
		}
	}
	result.Passed = len(result.Failures) == 0
	return result
}

// mentions reports whether the error, its hint or a reason contains a text.
func (d *Decision) mentions(text string) bool {
	if err := d.Err(); err != nil && (strings.Contains(err.Error(), text) || strings.Contains(fault.Of(err).Hint, text)) {
		return true
	}
	return slices.ContainsFunc(d.Reasons, func(r Reason) bool { return strings.Contains(r.Text, text) })
}

// compare checks the facts of an allowed session.
func (r *testRun) compare(want *TestWith, q Request, got Decision) []string {
	var failures []string
	if want.Mode != nil && got.Mode != *want.Mode {
		failures = append(failures, fmt.Sprintf("want mode %s, got %s", *want.Mode, got.Mode))
	}
	if want.DBUser != "" && got.DatabaseUser != want.DBUser {
		failures = append(failures, fmt.Sprintf("want db_user %s, got %s", want.DBUser, got.DatabaseUser))
	}
	if want.DBRoles != nil {
		roles := slices.Sorted(slices.Values(*want.DBRoles))
		if !slices.Equal(roles, got.DatabaseRoles) {
			failures = append(failures, fmt.Sprintf("want db_roles %v, got %v", roles, got.DatabaseRoles))
		}
	}
	for _, o := range want.Objects {
		if failure := r.compareObject(o, q, got); failure != "" {
			failures = append(failures, failure)
		}
	}
	return failures
}

func (r *testRun) compareObject(want TestObject, q Request, d Decision) string {
	object := Object{Kind: want.Kind, Database: want.Database, Schema: want.Schema, Name: want.Name}
	for _, f := range []struct {
		field *string
		value string
	}{{&object.Kind, resource.ObjectTable}, {&object.Schema, "public"}, {&object.Database, q.DatabaseName}} {
		if *f.field == "" {
			*f.field = f.value
		}
	}
	var have []string
	for _, o := range r.policy.ObjectPermissions(q.Database, q.Labels, d.Permissions, []Object{object}).Objects {
		have = append(have, o.Permissions...)
	}
	upper := func(list []string) []string {
		out := make([]string, 0, len(list))
		for _, v := range list {
			out = append(out, strings.ToUpper(strings.TrimSpace(v)))
		}
		slices.Sort(out)
		return out
	}
	if !slices.Equal(upper(want.Permissions), upper(have)) {
		return fmt.Sprintf("want %v on %s %s.%s, got %v", upper(want.Permissions), object.Kind, object.Schema, object.Name, upper(have))
	}
	return ""
}
