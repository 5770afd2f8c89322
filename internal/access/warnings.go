package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/resource"
)

// Warning is something in a policy that is valid but surely not meant: a role that
// can never match, a template that can never resolve, a deny without effect.
type Warning struct {
	Kind string `json:"kind"` // of the resource
	Name string `json:"name"` // of the resource
	Text string `json:"text"`
}

// String returns the warning as kind/name: text.
func (w Warning) String() string { return w.Kind + "/" + w.Name + ": " + w.Text }

// Warnings lists what is broken or useless in the policy, in the order of kinds
// and names.
func (p *Policy) Warnings() []Warning {
	var out []Warning
	provisions := false
	for _, r := range p.ordered {
		provisions = provisions || r.mode.Enabled()
	}
	for _, r := range p.ordered {
		for _, text := range slices.Concat(r.warnLabels(), r.warnAllow(provisions), r.warnDeny(), r.warnTemplates(), r.warnOptions()) {
			out = append(out, Warning{Kind: resource.KindRole, Name: r.name, Text: text})
		}
	}
	for _, r := range p.importRules {
		for _, text := range r.warn() {
			out = append(out, Warning{Kind: resource.KindImportRule, Name: r.name, Text: text})
		}
	}
	for _, l := range p.locks {
		if !canHit(&l.Spec.Target) {
			out = append(out, Warning{
				Kind: resource.KindLock, Name: l.GetName(),
				Text: "no database session has what this lock targets, so it hits nothing",
			})
		}
	}
	return out
}

// mentionsDatabases reports whether a side says anything about databases.
func (c *compiledConditions) mentionsDatabases(source resource.RoleConditions) bool {
	return c.hasLabels() || len(source.DatabaseNames)+len(source.DatabaseUsers)+len(source.DatabaseRoles)+len(source.DatabasePermissions) > 0
}

// warnLabels reports broken label selectors and expressions, and selectors that
// match nothing.
func (r *compiledRole) warnLabels() []string {
	var out []string
	if err := r.allow.broken; err != nil {
		out = append(out, fmt.Sprintf("the role is disabled, because what it allows is broken: %v", err))
	}
	if err := r.deny.broken; err != nil {
		out = append(out, fmt.Sprintf("the role refuses every session, because what it denies is broken: %v", err))
	}
	for _, side := range []struct {
		name   string
		labels resource.LabelSelector
	}{{"allow", r.allow.labels}, {"deny", r.deny.labels}} {
		for _, key := range slices.Sorted(maps.Keys(side.labels)) {
			if len(side.labels[key]) == 0 {
				out = append(out, fmt.Sprintf("%s.db_labels can never match: the label %s has no values", side.name, key))
			}
			if key == "*" && !slices.Equal(side.labels[key], []string{"*"}) {
				out = append(out, fmt.Sprintf("%s.db_labels asks for a label that is called *; a key is never a pattern", side.name))
			}
		}
	}
	return out
}

// warnAllow reports what the role allows but never gives.
func (r *compiledRole) warnAllow(provisions bool) []string {
	c := r.source.Spec.Allow
	if !r.allow.mentionsDatabases(c) {
		return nil
	}
	var out []string
	switch {
	case !r.allow.hasLabels():
		out = append(out, "the role can never match a database: it has neither allow.db_labels nor allow.db_labels_expression")
	case len(c.DatabaseNames) == 0 && len(c.DatabaseRoles)+len(c.DatabasePermissions) == 0:
		out = append(out, "the role can never grant access: allow.db_names is empty")
	}
	if len(c.DatabaseUsers) == 0 && !provisions && len(c.DatabaseNames) > 0 {
		out = append(out, "the role can never grant access: allow.db_users is empty, and no role creates database users")
	}
	if !r.mode.Enabled() {
		for _, name := range handedOut(c) {
			out = append(out, fmt.Sprintf("allow.%s is never used: only roles with create_db_user_mode hand them out", name))
		}
	}
	return out
}

// handedOut names the lists of what accounts get, as far as a side has any.
func handedOut(c resource.RoleConditions) []string {
	var names []string
	if len(c.DatabaseRoles) > 0 {
		names = append(names, "db_roles")
	}
	if len(c.DatabasePermissions) > 0 {
		names = append(names, "db_permissions")
	}
	return names
}

// warnDeny reports denies without an effect of their own, and allows that the
// same role takes back.
func (r *compiledRole) warnDeny() []string {
	allow, deny := r.source.Spec.Allow, r.source.Spec.Deny
	var out []string
	if r.deny.hasLabels() {
		for _, name := range handedOut(deny) {
			out = append(out, fmt.Sprintf("deny.%s is shadowed by the labels beside it: where they match, the whole session is refused", name))
		}
	}
	if r.deny.selector.all {
		out = append(out, "deny.db_labels matches every database: holders of the role have no access at all")
	}
	for _, f := range []struct {
		name        string
		allow, deny []string
	}{
		{"db_names", allow.DatabaseNames, deny.DatabaseNames},
		{"db_users", allow.DatabaseUsers, deny.DatabaseUsers},
		{"db_roles", allow.DatabaseRoles, deny.DatabaseRoles},
	} {
		out = append(out, shadowed(f.name, f.allow, f.deny)...)
	}
	return out
}

func shadowed(name string, allow, deny []string) []string {
	if slices.Contains(deny, "*") {
		var out []string
		if len(deny) > 1 {
			out = append(out, fmt.Sprintf(`the other values of deny.%s are shadowed by "*"`, name))
		}
		if len(allow) > 0 {
			out = append(out, fmt.Sprintf(`allow.%s is shadowed by "*" in deny.%s`, name, name))
		}
		return out
	}
	var out []string
	for _, v := range allow {
		if slices.Contains(deny, v) {
			out = append(out, fmt.Sprintf("allow.%s has %q, which deny.%s takes back", name, v, name))
		}
	}
	return out
}

// warnTemplates reports templates that no traits can resolve.
func (r *compiledRole) warnTemplates() []string {
	var out []string
	check := func(side, field, consequence string, texts []string) {
		for _, text := range texts {
			t, err := resource.ParseTemplate(text)
			if err == nil {
				err = t.CanResolve()
			}
			if err != nil {
				out = append(out, fmt.Sprintf("%s.%s: %v; %s", side, field, err, consequence))
			}
		}
	}
	for _, side := range []struct {
		name, list, labels string
		c                  resource.RoleConditions
	}{
		{"allow", "the entry is never used", "the role can never match", r.source.Spec.Allow},
		{"deny", "the role refuses every session", "the role refuses every session", r.source.Spec.Deny},
	} {
		check(side.name, "db_names", side.list, side.c.DatabaseNames)
		check(side.name, "db_users", side.list, side.c.DatabaseUsers)
		check(side.name, "db_roles", side.list, side.c.DatabaseRoles)
		for _, key := range slices.Sorted(maps.Keys(side.c.DatabaseLabels)) {
			check(side.name, "db_labels", side.labels, append([]string{key}, side.c.DatabaseLabels[key]...))
		}
	}
	return out
}

// warnOptions reports options that ask for what we cannot do.
func (r *compiledRole) warnOptions() []string {
	var out []string
	o := r.options
	if o.PinSourceIP {
		out = append(out, "options.pin_source_ip is not enforced")
	}
	if o.DeviceTrustMode.Required() {
		out = append(out, "options.device_trust_mode: trusted devices cannot be verified, so every session that the role grants is refused")
	}
	if o.RequireSessionMFA.Required() && strings.Contains(string(o.RequireSessionMFA), "hardware_key") {
		out = append(out, "options.require_session_mfa: hardware keys are not told from other second factors")
	}
	return out
}

func (r *compiledImportRule) warn() []string {
	var out []string
	switch {
	case r.anywhere != nil:
		out = append(out, fmt.Sprintf("no object gets permissions anywhere, because the rule is broken: %v", r.anywhere))
	case r.broken != nil:
		out = append(out, fmt.Sprintf("no object gets permissions where the rule applies, because it is broken: %v", r.broken))
	}
	for i := range r.mappings {
		empty := true
		for _, patterns := range r.mappings[i].names {
			empty = empty && len(patterns) == 0
		}
		if empty {
			out = append(out, fmt.Sprintf("mapping %d matches no objects: its match lists are empty", i+1))
		}
	}
	return out
}
