package resource

import "fmt"

// User is a person or machine that may log in, kind user v2.
type User struct {
	Kind     string         `json:"kind"`
	SubKind  string         `json:"sub_kind,omitempty"`
	Version  string         `json:"version"`
	Metadata Metadata       `json:"metadata"`
	Spec     UserSpec       `json:"spec"`
	Status   map[string]any `json:"status,omitempty"` // set by other products; not used
}

// UserSpec holds the roles of a user and the facts about them that templates use.
type UserSpec struct {
	Roles  []string            `json:"roles,omitempty"`
	Traits map[string][]string `json:"traits,omitempty"`
	Other  Other               `json:"-"`
}

func (UserSpec) toleratedKeys() []string {
	return []string{
		"created_by", "expires", "github_identities", "local_auth", "oidc_identities", "saml_identities", "status",
		"trusted_device_ids",
	}
}

// GetKind returns "user".
func (u *User) GetKind() string { return KindUser }

// GetName returns the name with which the user logs in.
func (u *User) GetName() string { return u.Metadata.Name }

// GetMetadata returns name, description and labels.
func (u *User) GetMetadata() Metadata { return u.Metadata }

// MarshalJSON returns the stored form.
func (u User) MarshalJSON() ([]byte, error) { return encodeJSON(u) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (u *User) UnmarshalJSON(data []byte) error {
	*u = User{}
	return decodeJSONInto(data, u)
}

func (u *User) prepare() Problems {
	u.Kind = KindUser
	if u.Version == "" {
		u.Version = "v2"
	}
	ps := checkName(KindUser, u.Metadata.Name)
	ps = append(ps, checkVersion(KindUser, u.Version, "v2")...)
	for i, role := range u.Spec.Roles {
		if role == "" {
			ps = append(ps, Problem{Path: fmt.Sprintf("spec.roles[%d]", i), Text: "a role name is empty"})
		}
	}
	return ps
}
