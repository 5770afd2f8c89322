package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// Decide answers a request. See [Bound.Decide].
func (p *Policy) Decide(q Request) Decision { return p.Bind(q).Decide(q) }

// Decide answers a request of the bound user; the user fields of q are not looked
// at. The order of roles never changes the answer.
func (b *Bound) Decide(q Request) Decision {
	e := evaluation{Bound: b, q: q, labels: q.Labels}
	e.d.Limits, e.d.Mode = b.limits.Limits, resource.ModeOff
	if e.labels == nil {
		e.labels = q.Database.Metadata.Labels
	}
	e.d.DatabaseUser = q.DatabaseUser
	e.dbname = q.DatabaseName
	if e.dbname == "" {
		e.dbname = q.DatabaseUser
	}
	if q.Replication == PhysicalReplication {
		e.dbname = PhysicalName
	}
	e.run()
	return e.d
}

// evaluation is one decision in the making.
type evaluation struct {
	*Bound
	q        Request
	labels   map[string]string
	dbname   string
	selected []bool        // whether the allow side of each role selects the database
	failed   map[int]error // roles whose allow side cannot be evaluated; nil when there is none
	d        Decision
}

// run takes the steps of behaviour.md §2.6 in their order. Each step refuses or
// lets the next one go on.
func (e *evaluation) run() {
	for _, step := range []func(*evaluation) bool{
		(*evaluation).checkRoles, (*evaluation).checkLocks, (*evaluation).checkClusterMFA, (*evaluation).checkNames,
		(*evaluation).findMode, (*evaluation).checkDeny, (*evaluation).checkAllow, (*evaluation).checkReplication, (*evaluation).checkUserName, (*evaluation).findDatabaseRoles,
	} {
		if !step(e) {
			return
		}
	}
	e.collectPermissions()
	e.d.Outcome = Allowed
	for _, i := range slices.Sorted(maps.Keys(e.failed)) {
		rule, text := e.describeMiss(i)
		e.note(EffectMiss, rule, e.roles[i].name, text)
	}
	e.d.Reasons = append(e.d.Reasons, e.limits.reasons()...)
}

// refuse ends the evaluation.
func (e *evaluation) refuse(outcome Outcome, err *fault.Error, reasons ...Reason) bool {
	e.d = Decision{Outcome: outcome, Mode: resource.ModeOff, Limits: e.limits.Limits, Reasons: reasons, refusal: err}
	return false
}

// checkRoles refuses users one of whose roles is unknown: it may hold denies.
func (e *evaluation) checkRoles() bool {
	if e.refusal == nil {
		return true
	}
	return e.refuse(Denied, denied("ask an administrator to create the role "+e.refusal.Role+" or to take it from the user"), *e.refusal)
}

func (e *evaluation) checkClusterMFA() bool {
	s := e.policy.settings
	if s.deviceTrust {
		return e.refuse(Denied, deviceError(), Reason{Effect: EffectDeny, Rule: RuleDevice, Text: "the cluster asks for a trusted device"})
	}
	if !s.requireMFA || e.q.MFAVerified {
		return true
	}
	return e.refuse(MFARequired, mfaError(), Reason{Effect: EffectMFA, Rule: RuleMFA, Text: "the cluster asks for a second factor for every session"})
}

// checkNames refuses names that PostgreSQL would cut: two people could become one
// database user, and a longer spelling would slip past a denied name.
func (e *evaluation) checkNames() bool {
	for _, n := range []struct {
		what, name string
		rule       Rule
	}{{"user name", e.q.DatabaseUser, RuleUserName}, {"database name", e.dbname, RuleNames}} {
		text := ""
		switch {
		case len(n.name) > MaxDatabaseUserName:
			text = fmt.Sprintf("the %s %q is longer than the %d bytes that PostgreSQL allows", n.what, n.name, MaxDatabaseUserName)
		case strings.ContainsRune(n.name, 0):
			text = fmt.Sprintf("the %s %q has a zero byte in it", n.what, n.name)
		default:
			continue
		}
		return e.refuse(Denied, fault.New(fault.Denied, text).WithHint("use a shorter name, or ask an administrator for one"),
			Reason{Effect: EffectDeny, Rule: n.rule, Text: text})
	}
	return true
}

func mfaError() *fault.Error {
	return fault.New(fault.Denied, "this session needs a second factor").WithHint("this version cannot ask for one: an administrator can take require_session_mfa out of the role or cluster_auth_preference that asks")
}

func deviceError() *fault.Error {
	return fault.New(fault.Denied, "this session needs a trusted device, which cannot be verified here").
		WithHint("ask an administrator to remove device_trust_mode")
}

// findMode evaluates the allow side of every role and finds the strongest mode
// among those that select the database. Names and users are not looked at.
func (e *evaluation) findMode() bool {
	e.selected = make([]bool, len(e.roles))
	for i := range e.roles {
		r := e.roles[i]
		selected, err := r.allow.selects(e.Bound, e.labels)
		if err != nil {
			if e.failed == nil {
				e.failed = map[int]error{}
			}
			e.failed[i] = err
			continue
		}
		e.selected[i] = selected
		if selected && r.mode > e.d.Mode {
			e.d.Mode = r.mode
		}
	}
	return true
}

// provisions reports whether database users are created for this session.
func (e *evaluation) provisions() bool { return e.d.Mode.Enabled() && e.q.Database.CanProvision() }

// checkDeny refuses when any role denies the database, the name or the user. The
// lists of names and users hit every database, whatever the labels of the role.
func (e *evaluation) checkDeny() bool {
	for i := range e.roles {
		r := e.roles[i]
		hit, err := r.deny.hits(e.Bound, e.labels)
		reason := Reason{Effect: EffectDeny, Role: r.name}
		switch {
		case err != nil:
			reason.Rule, reason.Text = RuleLabels, fmt.Sprintf("what role %s denies cannot be evaluated: %v", r.name, err)
		case hit:
			reason.Rule, reason.Text = RuleLabels, fmt.Sprintf("role %s denies this database", r.name)
		case !e.provisions() && r.deny.users.contains(e.q.DatabaseUser):
			reason.Rule, reason.Text = RuleUsers, fmt.Sprintf("role %s denies the database user %q", r.name, e.q.DatabaseUser)
		case r.deny.names.contains(e.dbname):
			reason.Rule, reason.Text = RuleNames, fmt.Sprintf("role %s denies the database name %q", r.name, e.dbname)
		case e.q.Replication == PhysicalReplication && !r.deny.names.empty():
			reason.Rule, reason.Text = RuleNames, fmt.Sprintf("role %s denies database names, and physical replication reads every database", r.name)
		default:
			continue
		}
		return e.refuse(Denied, denied(reason.Text), reason)
	}
	return true
}

// checkAllow looks for roles that grant the access: labels, name and user must
// match within the same role.
func (e *evaluation) checkAllow() bool {
	if e.q.DatabaseUser == "" {
		return e.refuse(Denied, fault.New(fault.Invalid, "user name must not be empty").WithHint("say who to log in as with --db-user"),
			Reason{Effect: EffectDeny, Rule: RuleUserName, Text: "the request has no database user"})
	}
	granted := false
	var second *Reason
	for i := range e.roles {
		r := e.roles[i]
		if !e.selected[i] || !r.allow.names.contains(e.dbname) || !e.provisions() && !r.allow.users.contains(e.q.DatabaseUser) {
			continue
		}
		granted = true
		if r.options.DeviceTrustMode.Required() {
			return e.refuse(Denied, deviceError(), Reason{Effect: EffectDeny, Rule: RuleDevice, Role: r.name, Text: "role " + r.name + " asks for a trusted device"})
		}
		if r.options.RequireSessionMFA.Required() && !e.q.MFAVerified && second == nil {
			second = &Reason{Effect: EffectMFA, Rule: RuleMFA, Role: r.name, Text: "role " + r.name + " asks for a second factor for every session"}
		}
		e.d.Limits.AllowReplication = e.d.Limits.AllowReplication || r.options.AllowReplication
		e.d.Reasons = append(e.d.Reasons, r.grants)
	}
	switch {
	case !granted:
		misses := e.misses()
		hint := "ask an administrator for a role that allows this database"
		if len(misses) > 0 {
			hint = misses[0].Text
		}
		return e.refuse(Denied, denied(hint), misses...)
	case second != nil:
		return e.refuse(MFARequired, mfaError(), *second)
	}
	return true
}

// checkReplication holds replication connections to roles that allow them.
func (e *evaluation) checkReplication() bool {
	if e.q.Replication == NoReplication || e.d.Limits.AllowReplication {
		return true
	}
	const text = "replication connections are not allowed"
	return e.refuse(Denied, fault.New(fault.Denied, text).WithHint("ask an administrator for a role with allow_replication in its options"),
		Reason{Effect: EffectDeny, Rule: RuleReplication, Text: "no role that grants the access has allow_replication"})
}

// checkUserName holds sessions with provisioning to the user's own name.
func (e *evaluation) checkUserName() bool {
	if !e.d.Mode.Enabled() {
		return true
	}
	deny := func(kind fault.Kind, text, hint string) bool {
		return e.refuse(Denied, fault.New(kind, text).WithHint(hint), Reason{Effect: EffectDeny, Rule: RuleUserName, Text: text})
	}
	const required = "your role requires automatic database user provisioning but this database doesn't "
	if !e.provisions() {
		return deny(fault.Denied, required+"support it, contact your administrator",
			"roles with create_db_user_mode must not select databases of type "+string(e.q.Database.Type()))
	}
	if admin, _ := e.q.Database.AdminUser(); admin == "" {
		return deny(fault.Denied, required+"have admin user configured, contact your administrator",
			"create one in PostgreSQL: CREATE USER \"teleport-admin\" LOGIN CREATEROLE; then set spec.admin_user.name of the database "+e.q.Database.GetName())
	}
	if e.q.DatabaseUser != e.user {
		text := fmt.Sprintf("please use your username (%q) to connect instead of %q", e.user, e.q.DatabaseUser)
		if e.remote {
			text = fmt.Sprintf("please use your mapped remote username (%q) to connect instead of %q", e.user, e.q.DatabaseUser)
		}
		return deny(fault.Invalid, text, "connect with --db-user="+e.user+", or leave it out")
	}
	return true
}

// findDatabaseRoles collects the db roles of the roles that provision, takes away
// what is denied, and checks what was asked for.
func (e *evaluation) findDatabaseRoles() bool {
	if !e.provisions() {
		return true
	}
	granted := e.databaseRoles(true)
	if e.q.DatabaseRoles == nil {
		e.d.DatabaseRoles = granted
		return true
	}
	asked := slices.Clone(e.q.DatabaseRoles)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	for _, r := range asked {
		if _, found := slices.BinarySearch(granted, r); !found {
			text := fmt.Sprintf("access to database role %q denied", r)
			hint := "you have no db roles on this database"
			if len(granted) > 0 {
				hint = "your db roles on this database: " + (&names{values: granted}).String()
			}
			return e.refuse(Denied, fault.New(fault.Denied, text).WithHint(hint), Reason{Effect: EffectDeny, Rule: RuleDBRoles, Text: text})
		}
	}
	e.d.DatabaseRoles = asked
	return true
}

// databaseRoles returns the db roles that policy gives, sorted. With explain it
// also notes which role each comes from.
func (e *evaluation) databaseRoles(explain bool) []string {
	n := 0
	for i, r := range e.roles {
		if e.selected[i] && r.mode.Enabled() {
			n += len(r.allow.dbRoles.values)
		}
	}
	granted := make([]string, 0, n)
	if explain {
		e.d.Reasons = slices.Grow(e.d.Reasons, n+10) // and those of mode and limits
	}
	for i, r := range e.roles {
		if !e.selected[i] || !r.mode.Enabled() {
			continue
		}
		for _, v := range r.allow.dbRoles.values {
			if len(v) > MaxDatabaseUserName {
				if explain {
					e.note(EffectMiss, RuleDBRoles, r.name, "db role "+v+" is left out: its name is longer than PostgreSQL allows")
				}
				continue
			}
			if by := e.deniesRole(v); by != "" {
				if explain {
					e.note(EffectDeny, RuleDBRoles, by, "db role "+v+" is denied by role "+by)
				}
				continue
			}
			granted = append(granted, v)
			if explain {
				e.note(EffectAllow, RuleDBRoles, r.name, "db role "+v+" comes from role "+r.name)
			}
		}
	}
	slices.Sort(granted)
	return slices.Compact(granted)
}

// deniesRole returns the role that denies a db role, or "". Denies count when the
// deny side of their role has no labels: with labels that match, the session was
// refused before, and with labels that do not match they are for other databases.
// A "*" denies every db role.
func (e *evaluation) deniesRole(dbRole string) string {
	for _, r := range e.denyingRoles {
		if r.deny.dbRoles.contains(dbRole) {
			return r.name
		}
	}
	return ""
}

func (e *evaluation) note(effect Effect, rule Rule, role, text string) {
	e.d.Reasons = append(e.d.Reasons, Reason{Effect: effect, Rule: rule, Role: role, Text: text})
}

// collectPermissions gathers the db_permissions entries that apply.
func (e *evaluation) collectPermissions() {
	if !e.provisions() {
		return
	}
	for i := range e.roles {
		r := e.roles[i]
		if e.selected[i] && r.mode.Enabled() {
			e.d.Permissions = append(e.d.Permissions, r.allow.perms...)
			if r.mode == e.d.Mode {
				e.d.Reasons = append(e.d.Reasons, r.provisions)
			}
		}
		if !r.deny.hasLabels() {
			e.d.Permissions = append(e.d.Permissions, r.deny.perms...)
		}
	}
}
