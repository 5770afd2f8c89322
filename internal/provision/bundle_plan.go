package provision

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
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
	slices.SortFunc(changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.object.class, b.object.class), cmp.Compare(a.object.oid, b.object.oid))
	})
	return changes
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

// objectsPerStatement bounds the length of a statement, and with it the time
// until statement_timeout can stop it.
const objectsPerStatement = 500

// bundleStatements turns changes into SQL, many objects of one kind in each
// statement; what is taken comes before what is given.
func bundleStatements(bundle string, changes []change) []string {
	type key struct {
		verb string
		word string
		p    privileges
	}
	var order []key
	lists := map[key][]string{}
	add := func(verb string, c *change, p privileges) {
		if p == 0 {
			return
		}
		k := key{verb, objectWord(c.object), p}
		if lists[k] == nil {
			order = append(order, k)
		}
		lists[k] = append(lists[k], objectReference(c.object, c.reach.arguments))
	}
	for i := range changes {
		add("REVOKE ", &changes[i], changes[i].revoke)
	}
	for i := range changes {
		add("REVOKE GRANT OPTION FOR ", &changes[i], changes[i].unoption)
	}
	for i := range changes {
		add("GRANT ", &changes[i], changes[i].grant)
	}
	var statements []string
	for _, k := range order {
		end := " TO " + quote(bundle)
		if k.verb != "GRANT " {
			end = " FROM " + quote(bundle) + " CASCADE" // what was handed on with a right that nobody should have had
		}
		for chunk := range slices.Chunk(lists[k], objectsPerStatement) {
			statements = append(statements, k.verb+k.p.String()+" ON "+k.word+" "+strings.Join(chunk, ", ")+end)
		}
	}
	return statements
}

// objectWord is what GRANT calls a kind of object.
func objectWord(o *bundleObject) string {
	switch o.kind {
	case resource.ObjectSequence:
		return "SEQUENCE"
	case resource.ObjectFunction:
		return "FUNCTION"
	case resource.ObjectProcedure:
		return "PROCEDURE"
	case kindSchema:
		return "SCHEMA"
	case kindDatabase:
		return "DATABASE"
	}
	return "TABLE"
}

// objectReference is the object as GRANT names it. The arguments of a routine
// come from PostgreSQL, quoted.
func objectReference(o *bundleObject, arguments string) string {
	switch o.class {
	case classSchema, classDatabase:
		return quote(o.name)
	case classRoutine:
		return quote(o.schema) + "." + quote(o.name) + "(" + arguments + ")"
	case classRelation:
	}
	return quote(o.schema) + "." + quote(o.name)
}

// planBundleRole returns the statements that make the role of a bundle what it
// must be. For a role that exists the first writes the comment, which takes its
// lock; without need for that, and when nothing differs, there are none.
func planBundleRole(have *bundleState, name, comment string, lock bool) []string {
	if !have.exists() {
		var steps []string
		if !have.Group.Exists {
			steps = append(steps, "CREATE ROLE "+quote(BundleGroup)+" NOLOGIN")
		}
		return append(steps, "CREATE ROLE "+quote(name)+" NOLOGIN IN ROLE "+quote(BundleGroup), commentOnRole(name, comment))
	}
	steps := powersOfBundle(have, name)
	if len(steps) == 0 && !lock {
		return nil
	}
	return slices.Insert(steps, 0, commentOnRole(name, comment))
}

// powersOfBundle returns the statements that take from a bundle what is no object permission.
func powersOfBundle(have *bundleState, name string) []string {
	var steps []string
	if words := attributeWords(account{Login: have.Role.Login, Inherit: true, Attributes: have.Role.Attributes}, target{}); len(words) > 0 {
		steps = append(steps, "ALTER ROLE "+quote(name)+" "+strings.Join(words, " "))
	}
	for _, role := range have.Role.MemberOf {
		steps = append(steps, "REVOKE "+quote(role)+" FROM "+quote(name))
	}
	return steps
}

func commentOnRole(name, text string) string {
	return fmt.Sprintf("COMMENT ON ROLE %s IS %s", quote(name), quoteLiteral(text))
}
