package provision

import (
	"fmt"
	"maps"
	"slices"
)

// rdsRole lets accounts of Amazon RDS log in with tokens.
const rdsRole = "rds_iam"

// databaseOwnerRole stands for the owner of whichever database one is in.
const databaseOwnerRole = "pg_database_owner"

// findings compares what is with what policy can ask for. Their order is one in
// which their SQL runs: what one statement needs, an earlier one has made.
func (c Checkup) findings(have facts) []Finding {
	if have.Recovery {
		// Every other repair would be refused here.
		return []Finding{{
			Severity: SeverityError, Check: "read_only",
			Problem: "this server is a replica",
			Breaks:  "accounts cannot be created or changed here: every session with automatic users is refused",
			Advice:  "register the address of the primary server (the writer endpoint), or switch automatic users off for this database",
		}}
	}
	var all []Finding
	for _, check := range []func(facts) []Finding{
		c.checkReadOnly, c.checkAdmin, c.checkReplication, c.checkRoles, c.checkIAM, c.checkGroup, c.checkInheritor, c.checkAccounts, c.checkBundles, c.checkDatabases, c.checkConnect,
	} {
		all = append(all, check(have)...)
	}
	return append(all, c.nameFindings()...)
}

// checkReadOnly: provisioning overrides the setting, sessions do not.
func (c Checkup) checkReadOnly(have facts) []Finding {
	const setting = "default_transaction_read_only"
	if !have.ReadOnly.On {
		return nil
	}
	f := Finding{
		Severity: SeverityWarning, Check: "read_only",
		Problem: setting + " is on (set by: " + have.ReadOnly.Source + ")",
		Breaks:  "sessions begin read-only: what people write fails until they switch it off themselves",
	}
	switch have.ReadOnly.Source {
	case "configuration file":
		f.SQL = []string{"ALTER SYSTEM SET " + setting + " = off;", "SELECT pg_catalog.pg_reload_conf();"}
	case "database":
		f.SQL = []string{"ALTER DATABASE " + printableName(have.Database) + " RESET " + setting + ";"}
	case "global":
		f.SQL = []string{"ALTER ROLE ALL RESET " + setting + ";"}
	case "user", "database user":
		return nil // it is the admin's own
	default:
		f.Advice = "find out why: managed servers set it when their disk is full; replicas and reader endpoints cannot be used"
	}
	return []Finding{f}
}

func (c Checkup) checkAdmin(have facts) []Finding {
	switch {
	case have.Admin.Superuser:
		return []Finding{{
			Severity: SeverityAdvice, Check: "superuser",
			Problem: fmt.Sprintf("the admin user %q is a superuser", c.AdminName),
			Breaks:  "nothing; but whoever takes over the agent can do anything to this server",
			Advice:  "use an admin user of its own: LOGIN, CREATEROLE, and on PostgreSQL 16 and newer ADMIN OPTION on the roles that it hands out",
		}}
	case !have.Admin.CreateRole:
		return []Finding{{
			Severity: SeverityError, Check: "createrole",
			Problem: fmt.Sprintf("the admin user %q lacks CREATEROLE", c.AdminName),
			Breaks:  "accounts cannot be created, enabled or disabled: every session with automatic users is refused",
			SQL:     []string{"ALTER ROLE " + printableName(c.AdminName) + " CREATEROLE;"},
		}}
	}
	return nil
}

// checkReplication: who may give the attribute depends on the version.
func (c Checkup) checkReplication(have facts) []Finding {
	var users []string
	for _, h := range c.Handouts {
		if h.Replication {
			users = append(users, h.Users...)
		}
	}
	if len(users) == 0 || c.IAM || have.Admin.Superuser || have.Version >= version16 && have.Admin.Replication {
		return nil
	}
	f := Finding{
		Severity: SeverityWarning, Check: "replication",
		Problem: fmt.Sprintf("the admin user %q lacks REPLICATION, which it has to hand out", c.AdminName),
		Breaks:  "replication connections are refused: " + some(users),
		SQL:     []string{"ALTER ROLE " + printableName(c.AdminName) + " REPLICATION;"},
	}
	if have.Version < version16 {
		f.Problem = fmt.Sprintf("the admin user %q may not hand out REPLICATION: before PostgreSQL 16 only superusers may", c.AdminName)
		f.SQL = nil
		f.Advice = "make an account by hand (CREATE ROLE replicator LOGIN REPLICATION;) and name it in db_users of a role without automatic users"
	}
	return []Finding{f}
}

func (c Checkup) checkRoles(have facts) []Finding {
	holders := c.holders()
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(holders)) {
		if f, found := c.checkRole(have, have.role(name)); found {
			f.Check = "db_role"
			if f.Breaks == "" {
				f.Breaks = "sessions that are given the role are refused: " + some(holders[name])
			}
			all = append(all, f)
		}
	}
	return all
}

func (c Checkup) checkRole(have facts, r roleFacts) (Finding, bool) {
	f := Finding{Severity: SeverityError}
	switch err := checkRoles("", []string{r.Name}); {
	case r.Name == Group || r.Name == BundleGroup:
		return f, false // never granted on request
	case err != nil:
		f.Problem = err.Error()
		f.Advice = "remove it from db_roles"
	case r.Name == c.AdminName:
		f.Problem = fmt.Sprintf("policy hands out %q, which is the admin user itself", r.Name)
		f.Advice = "remove it from db_roles: who has it can create and change accounts"
	case r.Name == databaseOwnerRole:
		f.Problem = fmt.Sprintf("role %q cannot be granted to anybody", r.Name)
		f.Advice = "remove it from db_roles"
	case !r.Exists:
		f.Problem = fmt.Sprintf("role %q does not exist", r.Name)
		f.SQL = []string{createRoleSQL(r.Name)}
		if have.mustOwn() {
			f.SQL = append(f.SQL, grantAdminOptionSQL(r.Name, c.AdminName))
		}
		f.Advice = "if the name is not a mistake in db_roles, create it, and grant it what it is for"
	case r.Superuser && !have.Admin.Superuser:
		f.Problem = fmt.Sprintf("role %q is a superuser's, and only superusers may grant it", r.Name)
		f.Advice = "remove it from db_roles; hand out a role that has the rights which are needed"
	case r.Superuser:
		f.Severity = SeverityWarning
		f.Problem = fmt.Sprintf("role %q is a superuser's", r.Name)
		f.Breaks = "nothing; but who is given it can do anything to this server with SET ROLE"
		f.Advice = "hand out a role that has the rights which are needed"
	case have.mustOwn() && !r.AdminOf:
		f.Problem = fmt.Sprintf("the admin user %q lacks ADMIN OPTION on role %q, which PostgreSQL 16 and newer ask for", c.AdminName, r.Name)
		f.SQL = []string{grantAdminOptionSQL(r.Name, c.AdminName)}
	default:
		return f, false
	}
	return f, true
}

func (c Checkup) checkIAM(have facts) []Finding {
	if !c.IAM {
		return nil
	}
	f := Finding{Severity: SeverityError, Check: "rds_iam", Breaks: "new accounts cannot log in with tokens: every session with automatic users is refused"}
	switch r := have.role(rdsRole); {
	case !r.Exists:
		f.Problem = "role rds_iam does not exist"
		f.Advice = "check that this is a server of Amazon RDS or Aurora; if it is not, remove the aws section of the database"
	case !r.AdminOf && !have.Admin.Superuser:
		f.Problem = fmt.Sprintf("the admin user %q lacks ADMIN OPTION on role rds_iam", c.AdminName)
		f.SQL = []string{grantAdminOptionSQL(rdsRole, c.AdminName)}
		if have.Version < version16 {
			f.Severity = SeverityWarning
			f.Breaks = "nothing where CREATEROLE is enough to grant the role, as in PostgreSQL before 16; where Amazon guards it, every session with automatic users is refused"
		}
	default:
		return nil
	}
	return []Finding{f}
}

// checkGroup: a group that is missing is made when it is needed.
func (c Checkup) checkGroup(have facts) []Finding {
	var all []Finding
	for _, group := range []struct {
		name string
		roleFacts
		Finding
	}{
		{Group, have.Group, Finding{Severity: SeverityError, Breaks: "accounts cannot be created: people who have none yet are refused"}},
		{BundleGroup, have.role(BundleGroup), Finding{Severity: SeverityWarning, Breaks: "rights on objects that db_permissions give cannot be granted"}},
	} {
		if !group.Exists || group.AdminOf || !have.mustOwn() {
			continue
		}
		f := group.Finding
		f.Check = "group"
		f.Problem = fmt.Sprintf("the admin user %q lacks ADMIN OPTION on the group %q", c.AdminName, group.name)
		f.SQL = []string{grantAdminOptionSQL(group.name, c.AdminName)}
		all = append(all, f)
	}
	return all
}

// checkAccounts looks at accounts of other admins, and at roles that only happen
// to have the name of a user.
func (c Checkup) checkAccounts(have facts) []Finding {
	users := c.users()
	var all []Finding
	for _, acc := range have.Accounts {
		_, wanted := slices.BinarySearch(users, acc.Name)
		switch {
		case !acc.Managed:
			all = append(all, c.namesake(have, acc))
		case !acc.AdminOf && have.mustOwn():
			f := Finding{
				Severity: SeverityError, Check: "account",
				Problem: fmt.Sprintf("the account %q was made by another admin: the admin user %q lacks ADMIN OPTION on it", acc.Name, c.AdminName),
				Breaks:  "it cannot be enabled or given roles: its owner is refused",
				SQL:     []string{grantAdminOptionSQL(acc.Name, c.AdminName)},
			}
			if !wanted {
				f.Severity, f.Breaks = SeverityWarning, "it cannot be disabled: rights that it still has stay"
			}
			all = append(all, f)
		}
	}
	return all
}

// namesake is about a role with a user's name that is not in the group. Only one
// without powers and without ties to other roles can be handed over without harm
// to somebody else.
func (c Checkup) namesake(have facts, acc accountFacts) Finding {
	f := Finding{
		Severity: SeverityError, Check: "namesake",
		Problem: fmt.Sprintf("role %q exists and is not managed by Postern", acc.Name),
		Breaks:  fmt.Sprintf("user %s is refused: the role may be somebody else's, and is left alone", acc.Name),
		Advice:  "rename the role or the user",
	}
	if acc.Self {
		f.Problem = fmt.Sprintf("user %s has the name of the admin user", acc.Name)
		f.Advice = "rename the user, or use another admin user"
	}
	_, handedOut := c.holders()[acc.Name]
	if !acc.Plain || acc.Self || handedOut {
		return f
	}
	if !have.Group.Exists {
		f.SQL = append(f.SQL, createRoleSQL(Group))
		if have.mustOwn() {
			f.SQL = append(f.SQL, grantAdminOptionSQL(Group, c.AdminName))
		}
	}
	f.SQL = append(f.SQL, "GRANT "+printableName(Group)+" TO "+printableName(acc.Name)+";")
	if have.mustOwn() && !acc.AdminOf {
		f.SQL = append(f.SQL, grantAdminOptionSQL(acc.Name, c.AdminName))
	}
	f.Advice = "if it is that user's, hand it over: Postern then sets its roles, and disables it between sessions; else rename the role or the user"
	return f
}

// holders returns the roles of policy with the users who can be given each.
func (c Checkup) holders() map[string][]string {
	users := map[string][]string{}
	for _, h := range c.Handouts {
		for _, role := range h.Roles {
			users[role] = append(users[role], h.Users...)
		}
	}
	return users
}
