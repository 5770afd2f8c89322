package provision

import (
	"fmt"
	"maps"
	"slices"
)

// checkDatabases: the logical databases exist, and let the admin in.
func (c Checkup) checkDatabases(have facts) []Finding {
	var all []Finding
	named := map[string]bool{}
	for _, h := range c.Handouts {
		for _, name := range h.Databases {
			if name != "*" && !slices.Contains(h.Except, name) {
				named[name] = true
			}
		}
	}
	if c.DefaultDatabase != "" {
		named[c.DefaultDatabase] = true
	}
	for _, d := range have.Databases {
		wanted := slices.ContainsFunc(c.Handouts, func(h Handout) bool { return h.covers(d) })
		delete(named, d.Name)
		if d.Admin || !wanted && d.Name != c.DefaultDatabase {
			continue
		}
		f := Finding{
			Severity: SeverityError, Check: "connect",
			Problem: fmt.Sprintf("the admin user %q may not connect to database %q", c.AdminName, d.Name),
			Breaks:  "nothing can be provisioned there: sessions with automatic users are refused",
			SQL:     []string{grantConnectSQL(d.Name, c.AdminName)},
		}
		if c.DefaultDatabase != "" && d.Name != c.DefaultDatabase {
			f.Severity, f.Breaks = SeverityWarning, "rights on objects of that database cannot be given"
		}
		all = append(all, f)
	}
	for _, name := range slices.Sorted(maps.Keys(named)) { // those that are missing
		f := Finding{
			Severity: SeverityAdvice, Check: "database",
			Problem: fmt.Sprintf("database %q does not exist, or takes no connections", name),
			Breaks:  "sessions for it are refused; where db_names serves several servers, that is as it should be",
			Advice:  "remove it from db_names if it is a mistake",
		}
		if name == c.DefaultDatabase {
			f.Severity = SeverityError
			f.Breaks, f.Advice = "nothing can be provisioned: the admin user works there", "correct default_database of the admin user"
		}
		all = append(all, f)
	}
	return all
}

// covers reports whether the users of h may use the database.
func (h Handout) covers(d databaseFacts) bool {
	return !slices.Contains(h.Except, d.Name) &&
		(slices.Contains(h.Databases, d.Name) || !d.Template && slices.Contains(h.Databases, "*"))
}

// checkConnect looks for people whose roles do not let them into a database.
func (c Checkup) checkConnect(have facts) []Finding {
	var all []Finding
	for _, d := range have.Databases {
		if d.Public || d.Group {
			continue
		}
		var locked []Handout
		for _, h := range c.Handouts {
			byRole := slices.ContainsFunc(h.Roles, func(r string) bool { return slices.Contains(d.Roles, r) })
			if h.covers(d) && !byRole && (h.Permissions == nil || !d.Grants) {
				locked = append(locked, h)
			}
		}
		all = append(all, c.letIn(d.Name, locked)...)
	}
	return all
}

// letIn grants CONNECT to few roles: one of each set is enough.
func (c Checkup) letIn(database string, locked []Handout) []Finding {
	var all []Finding
	for len(locked) > 0 {
		role := mostCommon(locked)
		var users []string
		locked = slices.DeleteFunc(locked, func(h Handout) bool {
			helped := role == "" || slices.Contains(h.Roles, role)
			if helped {
				users = append(users, h.Users...)
			}
			return helped
		})
		f := Finding{
			Severity: SeverityError, Check: "connect",
			Problem: fmt.Sprintf("no db role of %s may connect to database %q, and PUBLIC may not either", some(users), database),
			Breaks:  "they are refused there, though their accounts are set up",
		}
		if role == "" {
			f.Severity, f.Advice = SeverityWarning, "give them a db role that may connect, or leave the database out of their db_names"
		} else {
			f.SQL = []string{grantConnectSQL(database, role)}
		}
		all = append(all, f)
	}
	return all
}

// mostCommon returns the role that can be granted and is in most of the sets, the
// first by name, or "".
func mostCommon(sets []Handout) string {
	count := map[string]int{}
	for _, h := range sets {
		for _, role := range h.Roles {
			if role != Group && checkRoles("", []string{role}) == nil {
				count[role]++
			}
		}
	}
	best := ""
	for _, role := range slices.Sorted(maps.Keys(count)) {
		if best == "" || count[role] > count[best] {
			best = role
		}
	}
	return best
}
