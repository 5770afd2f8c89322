package access

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// Object is something inside a logical database that permissions can be on.
type Object struct {
	Kind     string // resource.ObjectTable and the others
	Database string // the logical database
	Schema   string
	Name     string
}

// ObjectPermission is what a session may do with one object.
type ObjectPermission struct {
	Object
	// Permissions are sorted and without duplicates. Case and outer blanks do not
	// matter in them; they are spelt as in the last entry that gave them.
	Permissions []string
}

// ObjectPermissions is the result of [Policy.ObjectPermissions].
type ObjectPermissions struct {
	Objects []ObjectPermission // those with at least one permission, in the order given
	Dropped int                // objects left out because an import rule is broken
}

// ObjectPermissions computes what the db_permissions of a decision give on each
// object of the database db, whose static and dynamic labels are given (nil: the
// static ones).
//
// Import rules put labels on the objects; every allow entry that selects an
// object's labels adds its permissions and every deny entry takes away, whatever
// their order. Objects that no rule imports get nothing. While an import rule
// that may apply is broken, all objects are dropped: the labels that it would
// give may be the ones that deny.
func (p *Policy) ObjectPermissions(db *resource.Database, labels map[string]string, permissions []Permission, objects []Object) ObjectPermissions {
	in := p.importerFor(db, labels)
	if in.broken {
		return ObjectPermissions{Dropped: len(objects)}
	}
	table := newPermissionTable(permissions)
	if table.broken {
		return ObjectPermissions{Dropped: len(objects)}
	}
	table.resolve(in)
	var out ObjectPermissions
	for i := range objects {
		if !in.labelObject(&objects[i]) {
			continue
		}
		if granted := table.permissions(in); len(granted) > 0 {
			out.Objects = append(out.Objects, ObjectPermission{Object: objects[i], Permissions: granted})
		}
	}
	return out
}

// Summary counts the objects per permission and kind, for the audit log:
// "INSERT: 1 objects (table:1), SELECT: 3 objects (table:2, view:1)", or "(none)".
func (o ObjectPermissions) Summary() string {
	counts := map[string]map[string]int{}
	for _, object := range o.Objects {
		for _, permission := range object.Permissions {
			if counts[permission] == nil {
				counts[permission] = map[string]int{}
			}
			counts[permission][object.Kind]++
		}
	}
	if len(counts) == 0 {
		return "(none)"
	}
	var parts []string
	for _, permission := range slices.Sorted(maps.Keys(counts)) {
		var kinds []string
		total := 0
		for _, kind := range slices.Sorted(maps.Keys(counts[permission])) {
			n := counts[permission][kind]
			total += n
			kinds = append(kinds, fmt.Sprintf("%s:%d", kind, n))
		}
		parts = append(parts, fmt.Sprintf("%s: %d objects (%s)", permission, total, strings.Join(kinds, ", ")))
	}
	return strings.Join(parts, ", ")
}

// permissionTable holds the db_permissions entries of one session in the form
// that evaluates fast: permissions are numbered, so that sets of them are bits.
type permissionTable struct {
	broken  bool // a match has a broken pattern
	entries []permissionEntry
	names   []string            // permission number → spelling
	words   int                 // of a bit set
	granted bits                // scratch
	denied  bits                // scratch
	known   map[string][]string // bit set → sorted permissions, shared by the objects
}

type bits []uint64

type permissionEntry struct {
	deny     bool
	all      bool // deny of "*"
	selector Selector
	slots    []int // label slot of each key of the selector; -1: no rule gives it
	set      bits
}

func newPermissionTable(permissions []Permission) *permissionTable {
	t := &permissionTable{known: map[string][]string{}}
	number := map[string]int{}
	sets := make([][]int, len(permissions))
	for i, p := range permissions {
		for _, name := range p.Permissions {
			name = strings.TrimSpace(name)
			key := strings.ToUpper(name)
			n, seen := number[key]
			if !seen {
				n = len(t.names)
				number[key] = n
				t.names = append(t.names, name)
			}
			if p.Effect == EffectAllow {
				t.names[n] = name // the last spelling that grants
			}
			sets[i] = append(sets[i], n)
		}
	}
	t.words = (len(t.names) + 63) / 64
	t.granted, t.denied = make(bits, t.words), make(bits, t.words)
	for i, p := range permissions {
		s, err := NewSelector(p.Match)
		t.broken = t.broken || err != nil
		e := permissionEntry{deny: p.Effect != EffectAllow, selector: s, set: make(bits, t.words)}
		for _, n := range sets[i] {
			e.set[n/64] |= 1 << (n % 64)
			e.all = e.all || t.names[n] == "*"
		}
		t.entries = append(t.entries, e)
	}
	return t
}

// resolve looks up where the importer keeps the labels that the entries ask for.
func (t *permissionTable) resolve(in *importer) {
	for i := range t.entries {
		e := &t.entries[i]
		for _, k := range e.selector.keys {
			slot, found := in.slots[k.key]
			if !found {
				slot = -1
			}
			e.slots = append(e.slots, slot)
		}
	}
}

// matches reports whether the entry selects the object that was labelled last.
func (e *permissionEntry) matches(in *importer) bool {
	if e.selector.all {
		return true
	}
	for i, slot := range e.slots {
		if slot < 0 || in.set[slot] != in.round || !e.selector.keys[i].match(in.values[slot]) {
			return false
		}
	}
	return len(e.slots) > 0
}

// permissions returns what the entries give on the object that was labelled last.
func (t *permissionTable) permissions(in *importer) []string {
	clear(t.granted)
	clear(t.denied)
	for i := range t.entries {
		e := &t.entries[i]
		if !e.matches(in) {
			continue
		}
		if e.deny && e.all {
			return nil
		}
		into := t.granted
		if e.deny {
			into = t.denied
		}
		for w := range into {
			into[w] |= e.set[w]
		}
	}
	key := make([]byte, 0, 64)
	for w := range t.granted {
		t.granted[w] &^= t.denied[w]
		for shift := 0; shift < 64; shift += 8 {
			key = append(key, byte(t.granted[w]>>shift))
		}
	}
	if list, found := t.known[string(key)]; found {
		return list
	}
	var list []string
	for n, name := range t.names {
		if t.granted[n/64]>>(n%64)&1 == 1 {
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(strings.ToUpper(a), strings.ToUpper(b)) })
	t.known[string(key)] = list
	return list
}
