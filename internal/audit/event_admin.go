package audit

// Login is an attempt to log in.
type Login struct {
	Actor
	Outcome
	Method    string `json:"method"` // local
	UserAgent string `json:"user_agent,omitempty"`
}

func (e Login) name() (string, string) { return "user.login", e.code("T1000") }

// InvitationCreate is a one-time invitation to set a password.
type InvitationCreate struct {
	Actor
	Name    string `json:"name"` // who is invited
	Expires Time   `json:"expires"`
}

func (InvitationCreate) name() (string, string) { return "reset_password_token.create", "T6000I" }

// PasswordChange is a password set, by its owner or by an administrator.
type PasswordChange struct {
	Actor
	Name string `json:"name"` // whose
}

func (PasswordChange) name() (string, string) { return "user.password_change", "T1005I" }

// CertificateCreate is a certificate that left the house.
type CertificateCreate struct {
	Actor
	Database             // the route of a user certificate
	CertType    string   `json:"cert_type"` // user, host, db or db_client
	Subject     string   `json:"subject"`   // user, or first host name
	Names       []string `json:"names,omitempty"`
	UserRoles   []string `json:"roles,omitempty"`
	Serial      string   `json:"serial"` // hex
	Expires     Time     `json:"expires"`
	Fingerprint string   `json:"fingerprint,omitempty"` // SHA-256 of the certificate, hex
}

func (CertificateCreate) name() (string, string) { return "cert.create", "TC000I" }

// DatabaseFreeze is automatic users of a database switched off, or on again.
type DatabaseFreeze struct {
	Actor
	Name   string `json:"name"`   // of the database
	Frozen bool   `json:"frozen"` // false: on again
	Reason string `json:"reason,omitempty"`
}

func (e DatabaseFreeze) name() (string, string) {
	if e.Frozen {
		return "db.freeze", "TDB20I"
	}
	return "db.unfreeze", "TDB21I"
}

// Change is what happened to a resource.
type Change int

// The changes.
const (
	Created Change = iota + 1
	Updated
	Deleted
)

// ResourceKind is a kind of resource that has events of its own.
type ResourceKind string

// The kinds, as resource calls them.
const (
	KindUser             ResourceKind = "user"
	KindRole             ResourceKind = "role"
	KindDatabase         ResourceKind = "db"
	KindImportRule       ResourceKind = "db_object_import_rule"
	KindLock             ResourceKind = "lock"
	KindAuthPreference   ResourceKind = "cluster_auth_preference"
	KindNetworkingConfig ResourceKind = "cluster_networking_config"
)

// ResourceChange is a resource created, updated or deleted.
type ResourceChange struct {
	Actor
	Kind   ResourceKind `json:"kind"`
	Change Change       `json:"-"`
	Name   string       `json:"name"`
}

func (e ResourceChange) name() (string, string) {
	switch e.Kind {
	case KindUser:
		return e.pick("user.create", "T1002I", "user.update", "T1003I", "user.delete", "T1004I")
	case KindRole:
		return e.pick("role.created", "T9000I", "role.updated", "T9002I", "role.deleted", "T9001I")
	case KindDatabase:
		return e.pick("db.create", "TDB03I", "db.update", "TDB04I", "db.delete", "TDB05I")
	case KindImportRule:
		return e.pick("db_object_import_rule.create", "TDR01I", "db_object_import_rule.update", "TDR02I", "db_object_import_rule.delete", "TDR03I")
	case KindLock:
		return e.pick("lock.created", "TLK00I", "lock.created", "TLK00I", "lock.deleted", "TLK01I")
	case KindAuthPreference: // there is always one: deleting it restores the defaults
		return e.pick("auth_preference.update", "TCAUTH001I", "auth_preference.update", "TCAUTH001I", "auth_preference.update", "TCAUTH001I")
	case KindNetworkingConfig:
		return e.pick("cluster_networking_config.update", "TCNET002I", "cluster_networking_config.update", "TCNET002I", "cluster_networking_config.update", "TCNET002I")
	}
	return "", ""
}

// pick returns the event and the code of the change; each comes twice, for
// created, updated and deleted.
func (e ResourceChange) pick(names ...string) (string, string) {
	if e.Change < Created || e.Change > Deleted {
		return "", ""
	}
	i := 2 * int(e.Change-Created)
	return names[i], names[i+1]
}

// LogRepaired is written by [Open] when the end of the log was damaged, as a
// crash may leave it. What does not belong to the chain was moved to File.
type LogRepaired struct {
	Segment string `json:"segment"` // which file was cut
	Offset  int64  `json:"offset"`  // where, in bytes
	Removed int64  `json:"removed"` // how much, in bytes
	SHA256  string `json:"sha256"`  // of what was removed, hex
	File    string `json:"file"`    // where it is now, in the same directory
}

func (LogRepaired) name() (string, string) { return "audit.repaired", "TPA00W" }
