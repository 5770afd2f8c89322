package resource

// Lock refuses new sessions of its target and ends the ones that exist, kind lock
// v2.
type Lock struct {
	Kind     string   `json:"kind"`
	SubKind  string   `json:"sub_kind,omitempty"`
	Version  string   `json:"version"`
	Metadata Metadata `json:"metadata"`
	Spec     LockSpec `json:"spec"`
}

// LockSpec says whom a lock hits, why and until when.
type LockSpec struct {
	Target    LockTarget `json:"target"`
	Message   string     `json:"message,omitempty"`
	Expires   Time       `json:"expires,omitzero"` // zero: until it is removed
	CreatedAt Time       `json:"created_at,omitzero"`
	CreatedBy string     `json:"created_by,omitempty"`
}

// LockTarget names what is locked. A session is hit when it agrees with every
// field that is set.
type LockTarget struct {
	User     string `json:"user,omitempty"`
	Role     string `json:"role,omitempty"`
	Login    string `json:"login,omitempty"`     // database user
	Database string `json:"database,omitempty"`  // registered database
	ServerID string `json:"server_id,omitempty"` // agent
	Other    Other  `json:"-"`
}

// toleratedKeys are targets that database sessions do not have.
func (LockTarget) toleratedKeys() []string {
	return []string{"access_request", "bot_instance_id", "device", "join_token", "mfa_device", "node", "windows_desktop"}
}

// GetKind returns "lock".
func (l *Lock) GetKind() string { return KindLock }

// GetName returns the name of the resource.
func (l *Lock) GetName() string { return l.Metadata.Name }

// GetMetadata returns name, description and labels.
func (l *Lock) GetMetadata() Metadata { return l.Metadata }

// MarshalJSON returns the stored form.
func (l Lock) MarshalJSON() ([]byte, error) { return encodeJSON(l) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (l *Lock) UnmarshalJSON(data []byte) error {
	*l = Lock{}
	return decodeJSONInto(data, l)
}

func (l *Lock) prepare() Problems {
	l.Kind = KindLock
	if l.Version == "" {
		l.Version = "v2"
	}
	ps := checkName(KindLock, l.Metadata.Name)
	ps = append(ps, checkVersion(KindLock, l.Version, "v2")...)
	t := l.Spec.Target
	if t.User == "" && t.Role == "" && t.Login == "" && t.Database == "" && t.ServerID == "" && len(t.Other) == 0 {
		ps = append(ps, Problem{Path: "spec.target", Text: "the lock has no target", Hint: "name a user, role, login, database or server_id"})
	}
	return ps
}
