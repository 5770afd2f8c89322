package resource

import "slices"

// Role grants and denies access, kind role v3 to v8.
type Role struct {
	Kind     string   `json:"kind"`
	SubKind  string   `json:"sub_kind,omitempty"`
	Version  string   `json:"version"`
	Metadata Metadata `json:"metadata"`
	Spec     RoleSpec `json:"spec"`
}

// RoleSpec holds what a role allows, what it denies, and options of sessions.
type RoleSpec struct {
	Options RoleOptions    `json:"options,omitzero"`
	Allow   RoleConditions `json:"allow,omitzero"`
	Deny    RoleConditions `json:"deny,omitzero"`
}

// LabelSelector selects things by their labels: every key must be there, with one
// of the listed values. How values match is described at access.Selector.
type LabelSelector map[string][]string

// RoleConditions is one side of a role, allow or deny.
//
// Nil and empty differ for DatabaseLabels: the default of version v3 applies to a
// missing field only.
type RoleConditions struct {
	DatabaseLabels                  LabelSelector        `json:"db_labels,omitempty"`
	DatabaseLabelsExpression        string               `json:"db_labels_expression,omitempty"`
	DatabaseNames                   []string             `json:"db_names,omitempty"`
	DatabaseUsers                   []string             `json:"db_users,omitempty"`
	DatabaseRoles                   []string             `json:"db_roles,omitempty"`
	DatabasePermissions             []DatabasePermission `json:"db_permissions,omitempty"`
	DatabaseServiceLabels           LabelSelector        `json:"db_service_labels,omitempty"`
	DatabaseServiceLabelsExpression string               `json:"db_service_labels_expression,omitempty"`
	Rules                           []Rule               `json:"rules,omitempty"`
	Other                           Other                `json:"-"`
}

// DatabasePermission grants or denies permissions on the objects that match.
type DatabasePermission struct {
	Match       LabelSelector `json:"match,omitempty"`
	Permissions []string      `json:"permissions,omitempty"`
}

// Rule grants or denies verbs on resources of the API, such as
// {resources: [db], verbs: [list, read]}.
type Rule struct {
	Resources []string `json:"resources,omitempty"`
	Verbs     []string `json:"verbs,omitempty"`
	Where     string   `json:"where,omitempty"`
	Actions   []string `json:"actions,omitempty"`
}

// toleratedKeys are the conditions of other protocols.
func (RoleConditions) toleratedKeys() []string {
	return []string{
		"account_assignments", "app_labels", "app_labels_expression", "aws_role_arns", "azure_identities", "cluster_labels",
		"cluster_labels_expression", "desktop_groups", "gcp_service_accounts", "git_server_labels", "git_server_labels_expression",
		"github_permissions", "group_labels", "group_labels_expression", "host_groups", "host_sudoers", "impersonate",
		"join_sessions", "kubernetes_groups", "kubernetes_labels", "kubernetes_labels_expression", "kubernetes_resources",
		"kubernetes_users", "logins", "mcp", "namespaces", "node_labels", "node_labels_expression", "request",
		"require_session_join", "review_requests", "spiffe", "windows_desktop_labels", "windows_desktop_labels_expression",
		"windows_desktop_logins", "workload_identity_labels", "workload_identity_labels_expression",
	}
}

// GetKind returns "role".
func (r *Role) GetKind() string { return KindRole }

// GetName returns the name of the role.
func (r *Role) GetName() string { return r.Metadata.Name }

// GetMetadata returns name, description and labels.
func (r *Role) GetMetadata() Metadata { return r.Metadata }

// MarshalJSON returns the stored form.
func (r Role) MarshalJSON() ([]byte, error) { return encodeJSON(r) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (r *Role) UnmarshalJSON(data []byte) error {
	*r = Role{}
	return decodeJSONInto(data, r)
}

// roleVersions are the accepted versions, oldest first.
var roleVersions = [...]string{"v3", "v4", "v5", "v6", "v7", "v8"}

func (r *Role) prepare() Problems {
	r.Kind = KindRole
	ps := checkName(KindRole, r.Metadata.Name)
	ps = append(ps, checkVersion(KindRole, r.Version, roleVersions[:]...)...)
	if r.Version == "v3" && r.Spec.Allow.DatabaseLabels == nil {
		r.Spec.Allow.DatabaseLabels = LabelSelector{"*": {"*"}}
	}
	ps = append(ps, r.Spec.Options.check("spec.options")...)
	ps = append(ps, r.Spec.Allow.check("spec.allow", true)...)
	return append(ps, r.Spec.Deny.check("spec.deny", false)...)
}

// DefaultMaxSessionTTL limits certificates when a role does not.
const DefaultMaxSessionTTL = 30 * hour

// CreateUserMode returns the mode that this role asks for: the explicit one, else
// keep when create_db_user is set, else off.
func (o RoleOptions) CreateUserMode() CreateUserMode {
	switch {
	case o.CreateDBUserMode != ModeUnspecified:
		return o.CreateDBUserMode
	case o.CreateDBUser:
		return ModeKeep
	}
	return ModeOff
}

// RecordLevel returns how much of a database session is recorded, or "" when the
// role does not say.
func (o RoleOptions) RecordLevel() RecordLevel {
	if o.RecordSession == nil {
		return ""
	}
	return o.RecordSession.DB
}

// IsEmpty reports whether the selector selects nothing.
func (s LabelSelector) IsEmpty() bool { return len(s) == 0 }

// wildcardOnly reports whether the values of the key "*" select everything.
func wildcardOnly(values []string) bool { return slices.Equal(values, []string{"*"}) }
