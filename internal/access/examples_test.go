package access_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// TestExamplePolicies runs the test file beside every example policy, and wants
// no warnings about them.
func TestExamplePolicies(t *testing.T) {
	t.Parallel()
	tests, err := filepath.Glob("../../examples/policies/*_test.yaml")
	if err != nil || len(tests) < 10 {
		t.Fatalf("found %d example policies, %v; want ten", len(tests), err)
	}
	for _, file := range tests {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			runExample(t, file, 1)
		})
	}
}

// TestSeedExamples runs the tests of the guide's own resources.
func TestSeedExamples(t *testing.T) {
	t.Parallel()
	runExample(t, "../../examples/seed/seed_test.yaml", 3)
}

// runExample runs a test file against the files that it names, which shall be n.
func runExample(t *testing.T, test string, n int) {
	t.Helper()
	data, err := os.ReadFile(test)
	if err != nil {
		t.Fatal(err)
	}
	f, err := access.ParseTests(test, data)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.From) != n {
		t.Fatalf("it is about %v, want %d files", f.From, n)
	}
	var (
		in        access.Input
		users     []*resource.User
		databases []*resource.Database
	)
	for _, file := range f.From {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(test), file))
		if err != nil {
			t.Fatal(err)
		}
		rs, err := resource.Parse(file, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			switch r := r.(type) {
			case *resource.User:
				users = append(users, r)
			case *resource.Database:
				databases = append(databases, r)
			default:
				in.Add(r)
			}
		}
	}
	p := access.NewPolicy(in)
	for _, w := range p.Warnings() {
		t.Errorf("warning: %s", w)
	}
	for _, r := range p.RunTests(f, users, databases) {
		if !r.Passed {
			t.Errorf("%s: %s", r.Name, strings.Join(r.Failures, "; "))
		}
	}
}
