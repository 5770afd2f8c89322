package access

import (
	"encoding/json"
	"fmt"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// Request asks for one session.
type Request struct {
	User          string              // the user's own name, also for users of trusted clusters
	Roles         []string            // live ones; for users of trusted clusters the roles they were mapped to
	Traits        map[string][]string // live ones
	RemoteCluster string              // name of the root cluster for users of trusted clusters, else ""

	Database      *resource.Database
	Labels        map[string]string // static and dynamic labels together; nil: the static ones of Database
	DatabaseUser  string            // asked for
	DatabaseName  string            // asked for; empty: the database user, as libpq does
	DatabaseRoles []string          // asked for; nil: all, empty: none
	Replication   Replication       // asked for
	ServerID      string            // of the agent; for locks
	MFAVerified   bool
}

// Replication is the kind of replication connection that a request asks for.
type Replication int

// The kinds. Logical replication reads one logical database; physical replication
// reads all of them at once, whatever database name it comes with.
const (
	NoReplication Replication = iota
	LogicalReplication
	PhysicalReplication
)

// PhysicalName stands for all logical databases together, as in pg_hba.conf: what
// db_names must allow for physical replication.
const PhysicalName = "replication"

// Outcome is what becomes of a request. The zero value refuses.
type Outcome int

// The outcomes.
const (
	Denied Outcome = iota
	Allowed
	MFARequired // allowed as soon as the second factor was verified for this session
)

// String returns denied, allowed or mfa_required.
func (o Outcome) String() string {
	switch o {
	case Denied:
		return "denied"
	case Allowed:
		return "allowed"
	case MFARequired:
		return "mfa_required"
	}
	return fmt.Sprintf("outcome(%d)", int(o))
}

// MarshalText returns [Outcome.String].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Effect is what a rule does.
type Effect string

// The effects.
const (
	EffectAllow Effect = "allow"
	EffectDeny  Effect = "deny"
	EffectMFA   Effect = "require_mfa"
	EffectLimit Effect = "limit"
	EffectMiss  Effect = "miss" // would have allowed, but does not match
)

// Rule says which part of a policy a reason comes from.
type Rule string

// The rules.
const (
	RuleRoles       Rule = "roles"
	RuleLock        Rule = "lock"
	RuleMFA         Rule = "require_session_mfa"
	RuleDevice      Rule = "device_trust_mode"
	RuleLabels      Rule = "db_labels"
	RuleNames       Rule = "db_names"
	RuleUsers       Rule = "db_users"
	RuleDBRoles     Rule = "db_roles"
	RulePermissions Rule = "db_permissions"
	RuleAccess      Rule = "access"
	RuleMode        Rule = "create_db_user_mode"
	RuleUserName    Rule = "user_name"
	RuleLimits      Rule = "limits"
	RuleReplication Rule = "allow_replication"
)

// Reason says where a part of a decision comes from.
type Reason struct {
	Effect Effect `json:"effect"`
	Rule   Rule   `json:"rule"`
	Role   string `json:"role,omitempty"` // empty: no role, but the cluster
	Text   string `json:"text"`           // for people
}

// Permission is one db_permissions entry that applies to a session.
type Permission struct {
	Effect      Effect                 `json:"effect"` // allow or deny
	Role        string                 `json:"role"`
	Match       resource.LabelSelector `json:"match"`
	Permissions []string               `json:"permissions"`
}

// Decision is the answer to a [Request].
type Decision struct {
	Outcome       Outcome
	Mode          resource.CreateUserMode // ModeOff when no database user is created
	DatabaseUser  string                  // who the session logs in as
	DatabaseRoles []string                // sorted; empty without provisioning
	Permissions   []Permission            // allow and deny, from the roles that provision; see Policy.ObjectPermissions
	Limits        Limits
	Reasons       []Reason // which role each comes from; for refusals the decisive one first, then near misses

	refusal *fault.Error
}

// Err returns nil when the session may start. Otherwise it is Denied, or Invalid
// when only the database user is the wrong one, and has a hint what to do.
func (d Decision) Err() error {
	switch {
	case d.Outcome == Allowed:
		return nil
	case d.refusal == nil:
		return denied("") // the zero Decision
	}
	return d.refusal
}

// textDenied is the text that existing tools look for.
const textDenied = "access to db denied. User does not have permissions. Confirm database user and name."

func denied(hint string) *fault.Error { return fault.New(fault.Denied, textDenied).WithHint(hint) }

// decisionJSON is the stable JSON form of a decision.
type decisionJSON struct {
	Outcome      Outcome      `json:"outcome"`
	Mode         string       `json:"mode"`
	DatabaseUser string       `json:"db_user,omitempty"`
	DBRoles      []string     `json:"db_roles"`
	Permissions  []Permission `json:"db_permissions"`
	Limits       limitsJSON   `json:"limits"`
	Reasons      []Reason     `json:"reasons"`
	Error        string       `json:"error,omitempty"`
	Hint         string       `json:"hint,omitempty"`
}

type limitsJSON struct {
	MaxSessionTTL         resource.Duration       `json:"max_session_ttl"`
	MaxConnections        int64                   `json:"max_connections"`
	ClientIdleTimeout     resource.Duration       `json:"client_idle_timeout"`
	DisconnectExpiredCert bool                    `json:"disconnect_expired_cert"`
	LockMode              resource.LockMode       `json:"lock"`
	Record                resource.RecordLevel    `json:"record"`
	ParallelSets          resource.ParallelSets   `json:"parallel_sets"`
	OnMissingGrant        resource.OnMissingGrant `json:"on_missing_grant"`
	AllowReplication      bool                    `json:"allow_replication"`
}

// MarshalJSON returns the decision with the keys outcome, mode, db_user, db_roles,
// db_permissions, limits, reasons, and error and hint for a refusal. Lists are
// never null.
func (d Decision) MarshalJSON() ([]byte, error) {
	out := decisionJSON{
		Outcome: d.Outcome, Mode: d.Mode.String(), DatabaseUser: d.DatabaseUser,
		DBRoles: append([]string{}, d.DatabaseRoles...), Permissions: append([]Permission{}, d.Permissions...),
		Limits: limitsJSON{
			MaxSessionTTL: resource.Duration(d.Limits.MaxSessionTTL), MaxConnections: d.Limits.MaxConnections,
			ClientIdleTimeout: resource.Duration(d.Limits.ClientIdleTimeout), DisconnectExpiredCert: d.Limits.DisconnectExpiredCert,
			LockMode: d.Limits.LockMode, Record: d.Limits.Record, ParallelSets: d.Limits.ParallelSets,
			OnMissingGrant: d.Limits.OnMissingGrant, AllowReplication: d.Limits.AllowReplication,
		},
		Reasons: append([]Reason{}, d.Reasons...),
	}
	if err := d.Err(); err != nil {
		out.Error, out.Hint = err.Error(), fault.Of(err).Hint
	}
	return json.Marshal(out)
}
