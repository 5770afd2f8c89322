package agent

import (
	"testing"

	"github.com/postern-db/postern/internal/access"
)

// TestWidens: a change that takes nothing is carried out without a time limit, since
// nobody has to be ended where it takes long.
func TestWidens(t *testing.T) {
	t.Parallel()
	read := access.Permission{Effect: access.EffectAllow, Match: map[string][]string{"name": {"orders"}}, Permissions: []string{"SELECT"}}
	deny := access.Permission{Effect: access.EffectDeny, Match: map[string][]string{"name": {"salaries"}}, Permissions: []string{"SELECT"}}
	for _, c := range []struct {
		name      string
		old, next []access.Permission
		want      bool
	}{
		{"the same", []access.Permission{read}, []access.Permission{read}, true},
		{"an allow entry more", nil, []access.Permission{read}, true},
		{"an allow entry less", []access.Permission{read}, nil, false},
		{"a deny entry more", []access.Permission{read}, []access.Permission{read, deny}, false},
		{"a deny entry less", []access.Permission{read, deny}, []access.Permission{read}, true},
		{"everything new, after all was taken away", nil, []access.Permission{read, deny}, true},
		{"what only denied", []access.Permission{deny}, []access.Permission{read}, true},
	} {
		if got := widens(c.old, c.next); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
