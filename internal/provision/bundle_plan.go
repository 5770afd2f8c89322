package provision

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// rights is what policy gives a bundle in one logical database.
type rights struct {
	on      map[objectID]privileges
	schemas map[string]bool // with an object that something is given on
	digest  [sha256.Size]byte
	counts  Counts
	kinds   map[string]int // objects by kind
}

// kindPrivileges are the privileges that some objects of a kind have.
type kindPrivileges struct {
	kind string
	p    privileges
}

// resolveRights asks policy about the objects. The error is Invalid for a permission that does
// not exist, and Denied when policy is broken and nothing can be said.
func resolveRights(have *bundleState, permissions func([]access.Object) access.ObjectPermissions) (rights, error) {
	r := rights{on: make(map[objectID]privileges, len(have.objects)), schemas: map[string]bool{}, counts: Counts{}, kinds: map[string]int{}}
	if permissions == nil {
		return r, nil
	}
	asked := make([]access.Object, 0, len(have.objects))
	for i := range have.objects {
		if o := &have.objects[i]; o.nameable() {
			asked = append(asked, access.Object{Kind: o.kind, Database: have.Database, Schema: o.schema, Name: o.name})
		}
	}
	given := permissions(asked)
	if given.Dropped > 0 {
		return r, fault.New(fault.Denied, "the object permissions of this session cannot be computed: an import rule or a db_permissions entry is broken").
			WithHint("ask your administrator to repair it; saving a resource lists what is broken")
	}
	parse := privilegeParser{version: have.Version}
	totals := map[kindPrivileges]int{}
	h := sha256.New()
	next := 0 // of asked
	for i := range have.objects {
		o := &have.objects[i]
		if !o.nameable() {
			continue
		}
		object := asked[next]
		next++
		// The answer has the order of the question.
		if len(given.Objects) == 0 || given.Objects[0].Object != object {
			continue
		}
		p, err := parse.privileges(given.Objects[0])
		if err != nil {
			return r, err
		}
		given.Objects = given.Objects[1:]
		if p == 0 {
			continue
		}
		r.on[o.id()] = p
		r.schemas[o.schema] = true
		totals[kindPrivileges{o.kind, p}]++
		var entry [9]byte
		entry[0] = byte(o.class)
		binary.BigEndian.PutUint32(entry[1:], o.oid)
		binary.BigEndian.PutUint32(entry[5:], uint32(p))
		h.Write(entry[:])
	}
	if len(given.Objects) > 0 {
		return r, fmt.Errorf("policy answered about %v, which was not asked in that order", given.Objects[0].Object)
	}
	for t, n := range totals {
		r.counts.add(t.kind, t.p, n)
		r.kinds[t.kind] += n
	}
	h.Sum(r.digest[:0])
	return r, nil
}

// of returns what a bundle is to have on an object. A schema of granted objects
// needs USAGE and the database CONNECT, unless everybody has it. Who may not
// connect is refused by PostgreSQL with a text of its own, so that CONNECT is
// granted only where the admin may.
func (r *rights) of(o *bundleObject) privileges {
	switch o.class {
	case classRelation, classRoutine:
		return r.on[o.id()]
	case classSchema:
		if usage := privilege("USAGE"); r.schemas[o.name] && (!o.public || o.held&usage != 0) {
			return usage
		}
	case classDatabase:
		connect := privilege("CONNECT")
		if len(r.on) > 0 && (o.held&connect != 0 || !o.public && o.usable) {
			return connect
		}
	}
	return 0
}

// change is what must become different on one object.
type change struct {
	object   *bundleObject
	grant    privileges
	revoke   privileges
	unoption privileges // GRANT OPTION FOR these is revoked
	reach    reach
}

// planBundle returns the changes that lead from have to what policy gives. It is
// pure, and empty when nothing differs. The order is that of the oids, so
// that two plans write the catalogs in the same order.
func planBundle(objects []bundleObject, want *rights) []change {
	var changes []change
	for i := range objects {
		o := &objects[i]
		wanted := want.of(o)
		c := change{object: o, grant: wanted &^ o.held, revoke: o.held &^ wanted, unoption: o.options & wanted}
		if c.grant|c.revoke|c.unoption != 0 {
			changes = append(changes, c)
		}
	}
	slices.SortFunc(changes, byObject)
	return changes
}

// byObject is the order in which the catalogs are written.
func byObject(a, b change) int {
	return cmp.Or(cmp.Compare(a.object.class, b.object.class), cmp.Compare(a.object.oid, b.object.oid))
}

// split parts the changes into those that the admin can make, the grants that it
// cannot make, and the revocations that it cannot make. What everybody has
// need not be granted.
func split(changes []change, reaches map[objectID]reach, closed map[string]bool) (possible, missing, stuck []change) {
	for _, c := range changes {
		c.reach = reaches[c.object.id()]
		if c.object.class == classDatabase && c.object.usable {
			c.reach.grantable = ^privileges(0)
		}
		able := c.reach.grantable
		if c.object.class != classSchema && closed[c.object.schema] {
			able = 0 // GRANT must be able to look the object up
		}
		if able != 0 {
			able |= otherPrivilege
		}
		do, lack, stay := c, c, c
		do.grant, do.revoke, do.unoption = c.grant&able, c.revoke&able, c.unoption&able
		lack.grant, lack.revoke, lack.unoption = c.grant&^(able|c.reach.public), 0, 0
		stay.grant, stay.revoke, stay.unoption = 0, c.revoke&^able, c.unoption&^able
		if do.grant|do.revoke|do.unoption != 0 {
			possible = append(possible, do)
		}
		if lack.grant != 0 {
			missing = append(missing, lack)
		}
		if stay.revoke|stay.unoption != 0 {
			stuck = append(stuck, stay)
		}
	}
	return possible, missing, stuck
}

// closedSchemas returns the schemas that the admin may not use.
func closedSchemas(objects []bundleObject) map[string]bool {
	closed := map[string]bool{}
	for i := range objects {
		if o := &objects[i]; o.class == classSchema && !o.usable {
			closed[o.name] = true
		}
	}
	return closed
}

// planBundleRole returns the statements that make the role of a bundle what it
// must be. For a role that exists the first writes the comment, which takes its
// lock; without need for that, and when nothing differs, there are none.
func planBundleRole(have *bundleState, name, comment string, lock bool) []Step {
	described := Step{commentOnRole(name, comment), "says what the bundle is for and when it was last used, and takes its lock"}
	if !have.exists() {
		var steps []Step
		if !have.Group.Exists {
			steps = append(steps, Step{"CREATE ROLE " + quote(BundleGroup) + " NOLOGIN", "bundles are the members of this role, and it does not exist"})
		}
		return append(steps, Step{
			"CREATE ROLE " + quote(name) + " NOLOGIN IN ROLE " + quote(BundleGroup),
			"nobody has had these db_permissions in this database lately: they have no bundle",
		}, described)
	}
	steps, _ := powersOfBundle(have, name)
	if len(steps) == 0 && !lock {
		return nil
	}
	return slices.Insert(steps, 0, described)
}

// powersOfBundle returns the statements that take from a bundle what is no object
// permission, and reports whether the admin may not take all of it.
func powersOfBundle(have *bundleState, name string) (steps []Step, over bool) {
	const why = "somebody gave it to the bundle, which holds object permissions and nothing else"
	var beyond beyond
	role := state{Version: have.Version, Admin: have.Admin, Account: account{
		Login: have.Role.Login, Inherit: true, ConnLimit: unlimited, Attributes: have.Role.Attributes,
	}}
	if words := attributeWords(role, target{}, &beyond); len(words) > 0 {
		steps = append(steps, Step{statement{action: alter, user: name, words: words}.String(), why})
	}
	for _, role := range have.Role.MemberOf {
		steps = append(steps, Step{"REVOKE " + quote(role) + " FROM " + quote(name), why})
	}
	return steps, beyond.rights()
}

func commentOnRole(name, text string) string {
	return fmt.Sprintf("COMMENT ON ROLE %s IS %s", quote(name), quoteLiteral(text))
}
