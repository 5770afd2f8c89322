package resource

import (
	"time"
)

const hour = Duration(time.Hour)

// RoleOptions are the options of sessions. How the options of several roles
// combine is described at access.Limits.
type RoleOptions struct {
	CreateDBUser          bool           `json:"create_db_user,omitempty"`
	CreateDBUserMode      CreateUserMode `json:"create_db_user_mode,omitempty"`
	MaxSessionTTL         Duration       `json:"max_session_ttl,omitempty"`     // zero: DefaultMaxSessionTTL
	MaxConnections        int64          `json:"max_connections,omitempty"`     // zero: unlimited
	ClientIdleTimeout     Duration       `json:"client_idle_timeout,omitempty"` // zero: never
	DisconnectExpiredCert bool           `json:"disconnect_expired_cert,omitempty"`
	Lock                  LockMode       `json:"lock,omitempty"`
	RequireSessionMFA     SessionMFA     `json:"require_session_mfa,omitempty"`
	DeviceTrustMode       DeviceTrust    `json:"device_trust_mode,omitempty"`
	RecordSession         *RecordSession `json:"record_session,omitempty"`
	RequestAccess         string         `json:"request_access,omitempty"`
	PinSourceIP           bool           `json:"pin_source_ip,omitempty"`
	ParallelSets          ParallelSets   `json:"parallel_sets,omitempty"`
	AllowReplication      bool           `json:"allow_replication,omitempty"`
	OnMissingGrant        OnMissingGrant `json:"on_missing_grant,omitempty"`
	Other                 Other          `json:"-"`
}

// toleratedKeys are the options of other protocols.
func (RoleOptions) toleratedKeys() []string {
	return []string{
		"cert_extensions", "cert_format", "create_desktop_user", "create_host_user", "create_host_user_default_shell",
		"create_host_user_mode", "desktop_clipboard", "desktop_directory_sharing", "enhanced_recording", "forward_agent", "idp",
		"max_kubernetes_connections", "max_sessions", "mfa_verification_interval", "permit_x11_forwarding", "port_forwarding",
		"request_prompt", "ssh_file_copy", "ssh_port_forwarding",
	}
}

// RecordSession says how much of a session is recorded.
type RecordSession struct {
	DB    RecordLevel `json:"db,omitempty"`
	Other Other       `json:"-"`
}

func (RecordSession) toleratedKeys() []string { return []string{"default", "desktop", "ssh", "k8s"} }

// RecordLevel is how much of a database session is recorded.
type RecordLevel string

// The levels. Empty leaves it to the other roles, and finally to full.
const (
	RecordNone RecordLevel = "none" // start and end only
	RecordTag  RecordLevel = "tag"  // the command tag of each statement
	RecordFull RecordLevel = "full" // the text of each statement
)

// UnmarshalText reads a level. The words of other products mean full.
func (l *RecordLevel) UnmarshalText(text []byte) error {
	if s := string(text); s == "best_effort" || s == "strict" {
		*l = RecordFull
		return nil
	}
	return keyword(l, text, "recording", "", RecordNone, RecordTag, RecordFull)
}

// LockMode says whether sessions survive when the agent's view of the locks may be
// out of date.
type LockMode string

// The lock modes. Empty leaves it to the other roles, and finally to the cluster.
const (
	LockBestEffort LockMode = "best_effort" // keep the last known view
	LockStrict     LockMode = "strict"      // end the sessions
)

// UnmarshalText reads a lock mode.
func (m *LockMode) UnmarshalText(text []byte) error {
	return keyword(m, text, "lock", "", LockBestEffort, LockStrict)
}

// SessionMFA says whether each session needs a fresh second factor.
type SessionMFA string

// The settings. The hardware key ones ask for more than we can verify; they are
// treated as [SessionMFARequired].
const (
	SessionMFAOff      SessionMFA = "off"
	SessionMFARequired SessionMFA = "session"
)

// Required reports whether a second factor is needed.
func (m SessionMFA) Required() bool { return m != "" && m != SessionMFAOff }

// UnmarshalText reads yes, no, or one of the words of other products.
func (m *SessionMFA) UnmarshalText(text []byte) error {
	if b, ok := parseBool(string(text)); ok {
		*m = SessionMFAOff
		if b {
			*m = SessionMFARequired
		}
		return nil
	}
	return keyword(m, text, "require_session_mfa", "", SessionMFAOff, SessionMFARequired, "multi_factor", "session_and_hardware_key",
		"hardware_key", "hardware_key_touch", "hardware_key_pin", "hardware_key_touch_and_pin")
}

// DeviceTrust says whether sessions need a trusted device.
type DeviceTrust string

// The settings.
const (
	DeviceTrustOff      DeviceTrust = "off"
	DeviceTrustOptional DeviceTrust = "optional"
	DeviceTrustRequired DeviceTrust = "required"
	DeviceTrustHumans   DeviceTrust = "required-for-humans"
)

// Required reports whether a trusted device is needed.
func (t DeviceTrust) Required() bool { return t == DeviceTrustRequired || t == DeviceTrustHumans }

// UnmarshalText reads one of the settings; a bare off may arrive as false.
func (t *DeviceTrust) UnmarshalText(text []byte) error {
	if string(text) == "false" {
		*t = DeviceTrustOff
		return nil
	}
	return keyword(t, text, "device_trust_mode", "", DeviceTrustOff, DeviceTrustOptional, DeviceTrustRequired, DeviceTrustHumans)
}

// ParallelSets says what happens to a session that asks for other db roles than
// the ones with which the database user is already in use.
type ParallelSets string

// The settings. Empty leaves it to the other roles, and finally to sibling.
const (
	ParallelSibling ParallelSets = "sibling" // it gets a database user of its own
	ParallelRefuse  ParallelSets = "refuse"  // it is refused
)

// UnmarshalText reads one of the settings.
func (p *ParallelSets) UnmarshalText(text []byte) error {
	return keyword(p, text, "parallel_sets", "", ParallelSibling, ParallelRefuse)
}

// OnMissingGrant says what happens when the admin user cannot grant everything
// that policy asks for.
type OnMissingGrant string

// The settings. Empty leaves it to the other roles, and finally to refuse.
const (
	MissingGrantRefuse OnMissingGrant = "refuse" // the session does not start
	MissingGrantWarn   OnMissingGrant = "warn"   // it starts with less
)

// UnmarshalText reads one of the settings.
func (o *OnMissingGrant) UnmarshalText(text []byte) error {
	return keyword(o, text, "on_missing_grant", "", MissingGrantRefuse, MissingGrantWarn)
}

func (o RoleOptions) check(path string) Problems {
	if o.MaxConnections < 0 {
		return Problems{{Path: path + ".max_connections", Text: "max_connections cannot be negative", Hint: "leave it out for no limit"}}
	}
	return nil
}
