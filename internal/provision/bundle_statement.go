package provision

import (
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// objectsPerStatement bounds the length of a statement, and with it the time
// until statement_timeout can stop it.
const objectsPerStatement = 500

// objectStatement is one statement about privileges on objects of a kind.
type objectStatement struct {
	sql     string
	verb    string // verbGrant or another
	p       privileges
	objects []*bundleObject
}

// What an objectStatement does.
const (
	verbRevoke   = "REVOKE "
	verbUnoption = "REVOKE GRANT OPTION FOR "
	verbGrant    = "GRANT "
)

// objectStatements turns changes into SQL, many objects of one kind in each
// statement; what is taken comes before what is given.
func objectStatements(role string, changes []change) []objectStatement {
	type key struct {
		verb string
		word string
		p    privileges
	}
	var order []key
	lists := map[key][]*change{}
	add := func(verb string, c *change, p privileges) {
		if p == 0 {
			return
		}
		k := key{verb, objectWord(c.object), p}
		if lists[k] == nil {
			order = append(order, k)
		}
		lists[k] = append(lists[k], c)
	}
	for i := range changes {
		add(verbRevoke, &changes[i], changes[i].revoke)
	}
	for i := range changes {
		add(verbUnoption, &changes[i], changes[i].unoption)
	}
	for i := range changes {
		add(verbGrant, &changes[i], changes[i].grant)
	}
	var statements []objectStatement
	for _, k := range order {
		end := " TO " + quote(role)
		if k.verb != verbGrant {
			end = " FROM " + quote(role) + " CASCADE" // what was handed on with a right that nobody should have had
		}
		for chunk := range slices.Chunk(lists[k], objectsPerStatement) {
			s := objectStatement{verb: k.verb, p: k.p}
			var names []string
			for _, c := range chunk {
				names = append(names, objectReference(c.object, c.reach.arguments))
				s.objects = append(s.objects, c.object)
			}
			s.sql = k.verb + k.p.String() + " ON " + k.word + " " + strings.Join(names, ", ") + end
			statements = append(statements, s)
		}
	}
	return statements
}

// bundleStatements is objectStatements as SQL.
func bundleStatements(role string, changes []change) []string {
	var sql []string
	for _, s := range objectStatements(role, changes) {
		sql = append(sql, s.sql)
	}
	return sql
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

// objectReference is the object as GRANT names it, on one line. The arguments of a routine
// come from PostgreSQL, quoted.
func objectReference(o *bundleObject, arguments string) string {
	switch o.class {
	case classSchema, classDatabase:
		return printableName(o.name)
	case classRoutine:
		return printableName(o.schema) + "." + printableName(o.name) + "(" + arguments + ")"
	case classRelation:
	}
	return printableName(o.schema) + "." + printableName(o.name)
}
