package access_test

import (
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func mapping(remote string, local ...string) resource.RoleMapping {
	return resource.RoleMapping{Remote: remote, Local: local}
}

func TestSection9RoleMap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		mappings []resource.RoleMapping
		remote   string
		want     string
	}{
		{"literal", []resource.RoleMapping{mapping("dev", "auto-db-users")}, "dev", "auto-db-users"},
		{"several local roles", []resource.RoleMapping{mapping("dev", "a", "b")}, "dev", "a b"},
		{"glob", []resource.RoleMapping{mapping("team-*", "all")}, "team-pay", "all"},
		{"the star is a group", []resource.RoleMapping{mapping("team-*-*", "$2-$1")}, "team-pay-ro", "ro-pay"},
		{"glob matches the whole", []resource.RoleMapping{mapping("dev", "a"), mapping("*", "b")}, "devx", "b"},
		{"dot is a dot", []resource.RoleMapping{mapping("a.b*", "a"), mapping("*", "b")}, "axb", "b"},
		{"regexp", []resource.RoleMapping{mapping("^team-(?P<t>.*)$", "local-${t}")}, "team-pay", "local-pay"},
		{"regexp as written", []resource.RoleMapping{mapping("^a|b$", "x")}, "ayy", "x"},
		{"every entry, in the order of the map", []resource.RoleMapping{mapping("b", "second"), mapping("a", "first"), mapping("*", "all")}, "a b", "second first all"},
		{"once", []resource.RoleMapping{mapping("a", "x"), mapping("b", "x")}, "a b", "x"},
		{"empty expansions are left out", []resource.RoleMapping{mapping("a*", "$1", "kept")}, "a", "kept"},
		{"the implicit role is skipped", []resource.RoleMapping{mapping("a", "x"), mapping("default*", "y")}, "default-implicit-role a", "x"},
		{"no roles count as one without name", []resource.RoleMapping{mapping("*", "guest")}, "", "guest"},
		{"the implicit role alone counts as none", []resource.RoleMapping{mapping("*", "guest")}, "default-implicit-role", "guest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := access.NewRoleMap(tt.mappings)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Map("alice", "root", words(tt.remote))
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		mappings []resource.RoleMapping
		want     string
	}{
		{[]resource.RoleMapping{mapping("", "a")}, "role map entry 1: the remote role is missing"},
		{[]resource.RoleMapping{mapping("a")}, `the local roles of "a" are missing`},
		{[]resource.RoleMapping{mapping("a", "")}, `a local role of "a" is empty`},
		{[]resource.RoleMapping{mapping("a", "b", "*")}, "cannot be a wildcard"},
		{[]resource.RoleMapping{mapping("a", "b"), mapping("a", "c")}, `role map entry 2: the remote role "a" is there twice`},
		{[]resource.RoleMapping{mapping("^($", "b")}, "invalid regular expression"},
	} {
		if _, err := access.NewRoleMap(tt.mappings); err == nil || !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != fault.Invalid {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	m, err := access.NewRoleMap([]resource.RoleMapping{mapping("dev", "a")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Map("alice", "root.example.com", words("x y"))
	want := `no roles mapped for remote user "alice" from cluster "root.example.com" with remote roles [x y]`
	if err == nil || err.Error() != want || fault.KindOf(err) != fault.Denied || fault.Of(err).Hint == "" {
		t.Errorf("got %v, want %s", err, want)
	}
}
