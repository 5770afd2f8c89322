package access

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// implicitRole is a role that other products add to every user. It means nothing
// here and is never mapped.
const implicitRole = "default-implicit-role"

// RoleMap turns the roles that a user has in another cluster into roles of this
// one. It is immutable.
type RoleMap struct{ entries []roleMapEntry }

type roleMapEntry struct {
	remote *regexp.Regexp
	local  []string
}

// NewRoleMap compiles a role map. The error is Invalid.
func NewRoleMap(mappings []resource.RoleMapping) (*RoleMap, error) {
	m := &RoleMap{}
	for i, entry := range mappings {
		wrong := func(format string, args ...any) (*RoleMap, error) {
			return nil, fault.Newf(fault.Invalid, "role map entry %d: %s", i+1, fmt.Sprintf(format, args...))
		}
		switch {
		case entry.Remote == "":
			return wrong("the remote role is missing")
		case len(entry.Local) == 0:
			return wrong("the local roles of %q are missing", entry.Remote)
		case slices.Contains(entry.Local, ""):
			return wrong("a local role of %q is empty", entry.Remote)
		case slices.Contains(entry.Local, "*"):
			return wrong("the local role of %q cannot be a wildcard", entry.Remote)
		case slices.ContainsFunc(mappings[:i], func(o resource.RoleMapping) bool { return o.Remote == entry.Remote }):
			return wrong("the remote role %q is there twice", entry.Remote)
		}
		text := entry.Remote
		if !strings.HasPrefix(text, "^") || !strings.HasSuffix(text, "$") {
			text = "^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, "(.*)") + ")$"
		}
		re, err := resource.CompileRegexp(text)
		if err != nil {
			return wrong("remote role %q: %v", entry.Remote, err)
		}
		m.entries = append(m.entries, roleMapEntry{re, entry.Local})
	}
	return m, nil
}

// Map returns the local roles of a user of another cluster, in the order of the
// map and without duplicates. Local names may use what the pattern matched: $1 is
// the first group, or the first star of a glob. A user without roles is mapped as
// one with a single role of no name, so that * covers everybody. When nothing is
// left the error is Denied.
func (m *RoleMap) Map(user, cluster string, remoteRoles []string) ([]string, error) {
	remote := slices.DeleteFunc(slices.Clone(remoteRoles), func(r string) bool { return r == implicitRole })
	candidates := remote
	if len(candidates) == 0 {
		candidates = []string{""}
	}
	var out []string
	for _, e := range m.entries {
		for _, role := range candidates {
			at := e.remote.FindStringSubmatchIndex(role)
			if at == nil {
				continue
			}
			for _, local := range e.local {
				name := string(e.remote.ExpandString(nil, local, role, at))
				if name != "" && !slices.Contains(out, name) {
					out = append(out, name)
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, fault.Newf(fault.Denied, "no roles mapped for remote user %q from cluster %q with remote roles %v", user, cluster, remote).
			WithHint("ask an administrator of this cluster to extend the role map of the trusted cluster " + cluster)
	}
	return out, nil
}
