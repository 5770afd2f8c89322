package provision

import "slices"

// checkInheritor: what dropped accounts own needs somebody to own it.
func (c Checkup) checkInheritor(have facts) []Finding {
	var users []string
	for _, h := range c.Handouts {
		if h.Reassign {
			users = append(users, h.Users...)
		}
	}
	obstacle := have.Inheritor.obstacle(have.Version, have.Admin.Superuser)
	if len(users) == 0 || obstacle == "" {
		return nil
	}
	f := Finding{
		Severity: SeverityWarning, Check: "inheritor",
		Problem: obstacle,
		Breaks:  "accounts that own something are disabled instead of dropped: " + some(users),
		SQL:     c.makeInheritor(have),
	}
	if slices.Contains(c.roles(), Inheritor) {
		f.Advice = "remove it from db_roles too: who is given it owns what others have left"
	}
	return []Finding{f}
}

// makeInheritor returns the statements that make the role as it has to be.
func (c Checkup) makeInheritor(have facts) (sql []string) {
	role := printableName(Inheritor)
	i := have.Inheritor
	if !i.Exists {
		sql = append(sql, createRoleSQL(Inheritor))
	}
	if i.Open || i.Mighty {
		sql = append(sql, "ALTER ROLE "+role+" NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;")
	}
	for _, group := range i.Groups {
		sql = append(sql, "REVOKE "+printableName(group)+" FROM "+role+";")
	}
	if have.mustOwn() && !i.Acts && !i.AdminOf {
		// The admin takes the rights for as long as it moves something, and cannot own anything new in the role's name.
		sql = append(sql, "GRANT "+role+" TO "+printableName(c.AdminName)+" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;")
	}
	return sql
}
