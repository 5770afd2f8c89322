package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/resource"
)

// Input is everything a policy is made of. The resources must be valid and must
// not be changed afterwards.
type Input struct {
	Roles          []*resource.Role
	ImportRules    []*resource.ImportRule     // none: the default rule, which imports everything
	AuthPreference *resource.AuthPreference   // nil: defaults
	Networking     *resource.NetworkingConfig // nil: defaults
	Locks          []*resource.Lock
	Now            func() time.Time // for the expiry of locks; nil: time.Now
}

// Policy is a set of roles, locks and settings, compiled. It is immutable and safe
// for concurrent use.
type Policy struct {
	roles       map[string]*compiledRole
	ordered     []*compiledRole       // by name
	importRules []*compiledImportRule // in the order in which they apply
	locks       []*resource.Lock
	settings    settings
	now         func() time.Time
}

// settings are those of the whole cluster.
type settings struct {
	requireMFA    bool
	deviceTrust   bool
	disconnect    bool
	lockMode      resource.LockMode
	clientTimeout time.Duration
}

// NewPolicy compiles a policy. It never fails: a piece that is broken is kept in a
// form that fails closed, and listed by [Policy.Warnings].
func NewPolicy(in Input) *Policy {
	p := &Policy{roles: make(map[string]*compiledRole, len(in.Roles)), locks: in.Locks, now: in.Now}
	if p.now == nil {
		p.now = time.Now
	}
	for _, r := range in.Roles {
		p.roles[r.GetName()] = compileRole(r)
	}
	for _, name := range slices.Sorted(maps.Keys(p.roles)) {
		p.roles[name].rank = len(p.ordered)
		p.ordered = append(p.ordered, p.roles[name])
	}
	p.importRules = compileImportRules(in.ImportRules)
	p.settings.lockMode = resource.LockBestEffort
	if a := in.AuthPreference; a != nil {
		p.settings.requireMFA = a.Spec.RequireSessionMFA.Required()
		p.settings.disconnect = a.Spec.DisconnectExpiredCert
		p.settings.deviceTrust = a.Spec.DeviceTrust != nil && a.Spec.DeviceTrust.Mode.Required()
		if a.Spec.LockingMode != "" {
			p.settings.lockMode = a.Spec.LockingMode
		}
	}
	if n := in.Networking; n != nil {
		p.settings.clientTimeout = n.Spec.ClientIdleTimeout.Std()
	}
	return p
}

// HasRole reports whether the policy defines a role of this name.
func (p *Policy) HasRole(name string) bool { return p.roles[name] != nil }

// compiledRole is a role in the form that decisions use.
type compiledRole struct {
	name        string
	rank        int              // place in the order of names
	static      *boundRole       // the role for every user, when it has no templates; else nil
	staticDeny  *boundConditions // the deny side for every user, when it has no templates; else nil
	grants      Reason           // text that needs no user, made once
	provisions  Reason
	options     resource.RoleOptions
	mode        resource.CreateUserMode
	allow, deny compiledConditions
	source      *resource.Role
}

// compiledConditions is one side of a role.
type compiledConditions struct {
	labels    resource.LabelSelector // as written; nil or empty when absent
	templates []labelTemplates       // of labels that use templates; the selector is then made per user
	selector  Selector               // zero when absent or made per user
	expr      *Expression            // nil when absent or broken
	broken    error                  // why labels or expression cannot be used
	names     list
	users     list
	dbRoles   list
	perms     []Permission
}

// hasLabels reports whether the side says which databases it is for.
func (c *compiledConditions) hasLabels() bool {
	return len(c.labels) > 0 || c.expr != nil || c.broken != nil
}

func compileRole(r *resource.Role) *compiledRole {
	name := r.GetName()
	out := &compiledRole{
		name: name, options: r.Spec.Options, mode: r.Spec.Options.CreateUserMode(), source: r,
		allow: compileConditions(name, EffectAllow, r.Spec.Allow),
		deny:  compileConditions(name, EffectDeny, r.Spec.Deny),
	}
	out.grants = Reason{Effect: EffectAllow, Rule: RuleAccess, Role: name, Text: "role " + name + " grants access"}
	out.provisions = Reason{Effect: EffectAllow, Rule: RuleMode, Role: name, Text: "role " + name + " creates database users: " + out.mode.String()}
	if out.deny.variable() {
		return out
	}
	deny := out.deny.bind(nil, true)
	out.staticDeny = &deny
	if !out.allow.variable() {
		out.static = out.bind(nil)
	}
	return out
}

// variable reports whether the side depends on the traits of the user.
func (c *compiledConditions) variable() bool {
	return c.templates != nil || c.names.fixed == nil || c.users.fixed == nil || c.dbRoles.fixed == nil
}

func compileConditions(role string, effect Effect, c resource.RoleConditions) compiledConditions {
	out := compiledConditions{
		labels: c.DatabaseLabels, templates: compileLabelTemplates(c.DatabaseLabels),
		names: compileList(c.DatabaseNames), users: compileList(c.DatabaseUsers), dbRoles: compileList(c.DatabaseRoles),
	}
	var errLabels, errExpression error
	if len(c.DatabaseLabels) > 0 && out.templates == nil {
		out.selector, errLabels = NewSelector(c.DatabaseLabels)
	}
	if c.DatabaseLabelsExpression != "" {
		out.expr, errExpression = ParseExpression(c.DatabaseLabelsExpression)
	}
	if err := errors.Join(errLabels, errExpression); err != nil {
		out.broken = fmt.Errorf("%s of role %s: %w", effect, role, err)
	}
	for _, p := range c.DatabasePermissions {
		out.perms = append(out.perms, Permission{Effect: effect, Role: role, Match: p.Match, Permissions: p.Permissions})
	}
	return out
}

// Add adds a resource that a policy is made of. Users and databases are not.
func (in *Input) Add(r resource.Resource) {
	switch r := r.(type) {
	case *resource.Role:
		in.Roles = append(in.Roles, r)
	case *resource.ImportRule:
		in.ImportRules = append(in.ImportRules, r)
	case *resource.Lock:
		in.Locks = append(in.Locks, r)
	case *resource.AuthPreference:
		in.AuthPreference = r
	case *resource.NetworkingConfig:
		in.Networking = r
	}
}
