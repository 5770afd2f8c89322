package resource

import "fmt"

// AuthPreference holds the cluster's settings about signing in, kind
// cluster_auth_preference v2. There is one per cluster.
type AuthPreference struct {
	Kind     string             `json:"kind"`
	SubKind  string             `json:"sub_kind,omitempty"`
	Version  string             `json:"version"`
	Metadata Metadata           `json:"metadata"`
	Spec     AuthPreferenceSpec `json:"spec"`
}

// AuthPreferenceSpec is the body of an [AuthPreference].
type AuthPreferenceSpec struct {
	Type                  string             `json:"type,omitempty"`           // local, oidc, …
	SecondFactor          string             `json:"second_factor,omitempty"`  // off, on, optional, otp or webauthn
	SecondFactors         []string           `json:"second_factors,omitempty"` // newer form of the same
	RequireSessionMFA     SessionMFA         `json:"require_session_mfa,omitempty"`
	DisconnectExpiredCert bool               `json:"disconnect_expired_cert,omitempty"`
	LockingMode           LockMode           `json:"locking_mode,omitempty"`
	DeviceTrust           *DeviceTrustConfig `json:"device_trust,omitempty"`
	Other                 Other              `json:"-"`
}

func (AuthPreferenceSpec) toleratedKeys() []string {
	return []string{
		"allow_headless", "allow_local_auth", "allow_passwordless", "connector_name", "default_session_ttl", "hardware_key", "idp",
		"message_of_the_day", "okta", "piv_slot", "signature_algorithm_suite", "stable_unix_user_config", "u2f", "webauthn",
	}
}

// DeviceTrustConfig says whether the cluster asks for trusted devices.
type DeviceTrustConfig struct {
	Mode  DeviceTrust `json:"mode,omitempty"`
	Other Other       `json:"-"`
}

func (DeviceTrustConfig) toleratedKeys() []string {
	return []string{"auto_enroll", "ekcert_allowed_cas"}
}

// GetKind returns "cluster_auth_preference".
func (a *AuthPreference) GetKind() string { return KindAuthPreference }

// GetName returns the name of the resource.
func (a *AuthPreference) GetName() string { return a.Metadata.Name }

// GetMetadata returns name, description and labels.
func (a *AuthPreference) GetMetadata() Metadata { return a.Metadata }

// MarshalJSON returns the stored form.
func (a AuthPreference) MarshalJSON() ([]byte, error) { return encodeJSON(a) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (a *AuthPreference) UnmarshalJSON(data []byte) error {
	*a = AuthPreference{}
	return decodeJSONInto(data, a)
}

func (a *AuthPreference) prepare() Problems {
	a.Kind = KindAuthPreference
	if a.Metadata.Name == "" {
		a.Metadata.Name = "cluster-auth-preference"
	}
	if a.Version == "" {
		a.Version = "v2"
	}
	ps := checkVersion(KindAuthPreference, a.Version, "v2")
	var word string
	if err := keyword(&word, []byte(a.Spec.SecondFactor), "second_factor", "", "off", "on", "optional", "otp", "webauthn", "u2f"); err != nil {
		ps = append(ps, Problem{Path: "spec.second_factor", Text: err.Error()})
	}
	for i, factor := range a.Spec.SecondFactors {
		if err := keyword(&word, []byte(factor), "second factor", "otp", "webauthn", "sso"); err != nil {
			ps = append(ps, Problem{Path: fmt.Sprintf("spec.second_factors[%d]", i), Text: err.Error()})
		}
	}
	return ps
}

// NetworkingConfig holds the cluster's settings about connections, kind
// cluster_networking_config v2. There is one per cluster.
type NetworkingConfig struct {
	Kind     string               `json:"kind"`
	SubKind  string               `json:"sub_kind,omitempty"`
	Version  string               `json:"version"`
	Metadata Metadata             `json:"metadata"`
	Spec     NetworkingConfigSpec `json:"spec"`
}

// NetworkingConfigSpec is the body of a [NetworkingConfig].
type NetworkingConfigSpec struct {
	ClientIdleTimeout  Duration `json:"client_idle_timeout,omitempty"` // zero: never
	IdleTimeoutMessage string   `json:"idle_timeout_message,omitempty"`
	Other              Other    `json:"-"`
}

func (NetworkingConfigSpec) toleratedKeys() []string {
	return []string{
		"assist_command_execution_workers", "case_insensitive_routing", "keep_alive_count_max", "keep_alive_interval",
		"proxy_listener_mode", "proxy_peering", "proxy_ping_interval", "routing_strategy", "session_control_timeout",
		"ssh_dial_timeout", "tunnel_strategy", "web_idle_timeout",
	}
}

// GetKind returns "cluster_networking_config".
func (n *NetworkingConfig) GetKind() string { return KindNetworkingConfig }

// GetName returns the name of the resource.
func (n *NetworkingConfig) GetName() string { return n.Metadata.Name }

// GetMetadata returns name, description and labels.
func (n *NetworkingConfig) GetMetadata() Metadata { return n.Metadata }

// MarshalJSON returns the stored form.
func (n NetworkingConfig) MarshalJSON() ([]byte, error) { return encodeJSON(n) }

// UnmarshalJSON is [DecodeJSON] for this kind.
func (n *NetworkingConfig) UnmarshalJSON(data []byte) error {
	*n = NetworkingConfig{}
	return decodeJSONInto(data, n)
}

func (n *NetworkingConfig) prepare() Problems {
	n.Kind = KindNetworkingConfig
	if n.Metadata.Name == "" {
		n.Metadata.Name = "cluster-networking-config"
	}
	if n.Version == "" {
		n.Version = "v2"
	}
	return checkVersion(KindNetworkingConfig, n.Version, "v2")
}

// RoleMapping says which local roles the holders of a remote role get, in the
// role map of a trusted cluster.
type RoleMapping struct {
	Remote string   `json:"remote"` // a name, a glob, or a regular expression ^…$
	Local  []string `json:"local"`  // names that may use $1 and so on
}
