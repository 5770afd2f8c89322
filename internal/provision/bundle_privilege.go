package provision

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// privileges is a set of privileges; bit n stands for privilegeNames[n].
type privileges uint32

// privilegeNames are PostgreSQL's names as aclexplode returns them.
var privilegeNames = [...]string{
	"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN", "USAGE", "EXECUTE",
	"CREATE", "CONNECT", "TEMPORARY",
}

// otherPrivilege stands for privileges that we do not know.
const otherPrivilege privileges = 1 << 30

// privilege returns the set of one, or nothing for an unknown name.
func privilege(name string) privileges {
	if i := slices.Index(privilegeNames[:], name); i >= 0 {
		return 1 << i
	}
	return 0
}

// names returns the privileges in a fixed order.
func (p privileges) names() []string {
	var names []string
	for ; p != 0; p &= p - 1 {
		if i := bits.TrailingZeros32(uint32(p)); i < len(privilegeNames) {
			names = append(names, privilegeNames[i])
		}
	}
	return names
}

func (p privileges) String() string {
	if p&otherPrivilege != 0 {
		return "ALL PRIVILEGES"
	}
	return strings.Join(p.names(), ", ")
}

// privilegeArray is privilegeNames as an array in SQL.
func privilegeArray() string {
	return "'{" + strings.Join(privilegeNames[:], ",") + "}'::pg_catalog.text[]"
}

// version17 is the server_version_num from which MAINTAIN exists.
const version17 = 170000

// grantable returns the privileges that a server knows for a kind of object.
func grantable(kind string, version int) privileges {
	var set privileges
	for _, name := range resource.Privileges(kind) {
		set |= privilege(name)
	}
	if version < version17 {
		set &^= privilege("MAINTAIN")
	}
	return set
}

// parsePrivileges reads what policy gives on one object. What some other kind of
// object has is left out, because one entry may select many kinds; but
// on a table everything must be known. The error is Invalid.
func parsePrivileges(o access.ObjectPermission, version int) (privileges, error) {
	own := grantable(o.Kind, version)
	var set privileges
	for _, text := range o.Permissions {
		p := privilege(strings.ToUpper(strings.TrimSpace(text)))
		if p&own == 0 && (o.Kind == resource.ObjectTable || !knownSomewhere(p, version)) {
			f := fault.Newf(fault.Invalid, "unrecognized %q Postgres permission: %q", o.Kind, text)
			if p == privilege("MAINTAIN") {
				return 0, f.WithHint("this server does not know it: MAINTAIN exists since PostgreSQL 17")
			}
			return 0, f.WithHint("the permissions on a " + o.Kind + " are " + own.String() + "; select objects by object_kind to give others their own")
		}
		set |= p & own
	}
	return set, nil
}

func knownSomewhere(p privileges, version int) bool {
	return slices.ContainsFunc(resource.ObjectKinds(), func(kind string) bool { return p&grantable(kind, version) != 0 })
}

// privilegeParser is parsePrivileges that remembers: thousands of objects share one list.
type privilegeParser struct {
	version int
	known   map[parsed]privileges
}

type parsed struct {
	kind  string
	first *string // of the list
	n     int
}

func (pp *privilegeParser) privileges(o access.ObjectPermission) (privileges, error) {
	if len(o.Permissions) == 0 {
		return 0, nil
	}
	key := parsed{o.Kind, &o.Permissions[0], len(o.Permissions)}
	if p, ok := pp.known[key]; ok {
		return p, nil
	}
	p, err := parsePrivileges(o, pp.version)
	if err == nil && pp.known == nil {
		pp.known = map[parsed]privileges{}
	}
	if err == nil {
		pp.known[key] = p
	}
	return p, err
}

// Counts says on how many objects of each kind a permission is held:
// permission → kind of object → number.
type Counts map[string]map[string]int

func (c Counts) add(kind string, p privileges, n int) {
	for _, name := range p.names() {
		if c[name] == nil {
			c[name] = map[string]int{}
		}
		c[name][kind] += n
	}
}
