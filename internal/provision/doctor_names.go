package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// nameFindings needs no server: names that cannot become accounts.
func (c Checkup) nameFindings() []Finding {
	people := map[string][]string{} // with their roles
	for _, h := range c.Handouts {
		for _, user := range h.Users {
			people[user] = append(people[user], h.Roles...)
		}
	}
	names := slices.Sorted(maps.Keys(people))
	var all []Finding
	for _, user := range names {
		err := checkUser(user)
		if err == nil {
			err = checkRoles(user, slices.DeleteFunc(people[user], func(role string) bool { return role != user }))
		}
		if err == nil {
			continue
		}
		f := Finding{
			Severity: SeverityError, Check: "user_name",
			Problem: err.Error(), Breaks: "user " + user + " is refused", Advice: "rename the user",
		}
		switch twins := sameBeginning(user, names); {
		case len(user) <= maxName && user != "" && checkUser(user) == nil:
			f.Advice = "rename the user or the db role"
		case len(twins) > 0:
			f.Advice = fmt.Sprintf("use a shorter name; PostgreSQL would take the user for %s, whose name begins with the same %d bytes", some(twins), maxName)
		case len(user) > maxName:
			f.Advice = fmt.Sprintf("use a name of at most %d bytes", maxName)
		}
		all = append(all, f)
	}
	return all
}

// sameBeginning returns the other names that PostgreSQL would cut off to the same.
func sameBeginning(user string, names []string) []string {
	var twins []string
	for _, other := range names {
		if other != user && cut(other) == cut(user) {
			twins = append(twins, other)
		}
	}
	return twins
}

// cut cuts a name off as PostgreSQL does: never within a character.
func cut(name string) string {
	if len(name) <= maxName {
		return name
	}
	end := maxName
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// some names the first few of many.
func some(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
