package access

import (
	"slices"

	"github.com/postern-db/postern/internal/resource"
)

// Overview says what a user could do on a database, for listings.
type Overview struct {
	Visible       bool                    // some role selects the database and nothing denies it
	Mode          resource.CreateUserMode // ModeOff when no database user is created
	AllowedUsers  []string                // sorted; "*" alone for any; the own name with provisioning
	DeniedUsers   []string                // sorted; exceptions from AllowedUsers
	AllowedNames  []string                // sorted; "*" alone for any
	DeniedNames   []string                // sorted; exceptions from AllowedNames
	DatabaseRoles []string                // sorted; empty without provisioning
}

// Overview says what the user of q could do on the database of q. The database
// user, name and roles of q are not looked at.
func (p *Policy) Overview(q Request) Overview { return p.Bind(q).Overview(q.Database, q.Labels) }

// Overview says what the bound user could do on a database. Labels are static and
// dynamic ones together; nil means the static ones. Locks and second factors do
// not hide a database.
func (b *Bound) Overview(db *resource.Database, labels map[string]string) Overview {
	if labels == nil {
		labels = db.Metadata.Labels
	}
	e := evaluation{Bound: b, q: Request{Database: db}, labels: labels}
	e.d.Mode = resource.ModeOff
	if b.refusal != nil {
		return Overview{Mode: resource.ModeOff}
	}
	for i := range b.roles {
		if hit, err := b.roles[i].deny.hits(b, labels); hit || err != nil {
			return Overview{Mode: resource.ModeOff}
		}
	}
	e.findMode()
	if !slices.Contains(e.selected, true) {
		return Overview{Mode: resource.ModeOff}
	}
	o := Overview{Visible: true, Mode: e.d.Mode}
	o.AllowedNames, o.DeniedNames = e.enumerate(nameList)
	if !e.provisions() {
		if o.Mode.Enabled() {
			return o // the roles ask for what this database cannot do: nobody may log in
		}
		o.AllowedUsers, o.DeniedUsers = e.enumerate(userList)
		return o
	}
	o.AllowedUsers = []string{b.user}
	o.DatabaseRoles = e.databaseRoles(false)
	return o
}

// AnyName returns a database name that is allowed, for questions whose answer does not
// depend on it: what roles give does not. It is empty where none is allowed.
func (o Overview) AnyName() string {
	if len(o.AllowedNames) == 0 {
		return ""
	}
	if o.AllowedNames[0] != "*" {
		return o.AllowedNames[0]
	}
	name := "postgres"
	for slices.Contains(o.DeniedNames, name) {
		name += "_"
	}
	return name
}

// enumerate returns the values that roles which select the database allow, less
// those that any role denies. With a wildcard among the allowed the denied ones
// stay exceptions; with a wildcard among the denied nothing is left.
func (e *evaluation) enumerate(of func(*boundConditions) *names) (allowed, denied []string) {
	anyAllowed, anyDenied := false, false
	for i := range e.roles {
		d := of(e.roles[i].deny)
		denied = append(denied, d.values...)
		anyDenied = anyDenied || d.any
		if e.selected[i] {
			a := of(&e.roles[i].allow)
			allowed = append(allowed, a.values...)
			anyAllowed = anyAllowed || a.any
		}
	}
	slices.Sort(denied)
	denied = slices.Compact(denied)
	switch {
	case anyDenied:
		return nil, denied
	case anyAllowed:
		return []string{"*"}, denied
	}
	allowed = slices.DeleteFunc(allowed, func(v string) bool { _, hit := slices.BinarySearch(denied, v); return hit })
	slices.Sort(allowed)
	return slices.Compact(allowed), denied
}
