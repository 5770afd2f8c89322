package audit

// DatabaseSessionStart is written before the first request of a session is read,
// or when a session is refused.
type DatabaseSessionStart struct {
	Session
	Database
	Outcome
	PID       uint32 `json:"pid,omitempty"` // PostgreSQL's backend process
	UserAgent string `json:"user_agent,omitempty"`
}

func (e DatabaseSessionStart) name() (string, string) {
	return "db.session.start", e.code("TDB00")
}

// DatabaseSessionAuthorize is durable before anything is done for a session that
// policy allows: before a database user exists for it, and before its login.
type DatabaseSessionAuthorize struct {
	Session
	Database
}

func (DatabaseSessionAuthorize) name() (string, string) { return "db.session.authorize", "TPA01I" }

// DatabaseSessionEnd is written when a session that started has ended.
type DatabaseSessionEnd struct {
	Session
	Database
	Start      Time   `json:"session_start"`
	Stop       Time   `json:"session_stop"`
	DurationMS int64  `json:"duration_ms"`
	Reason     string `json:"reason,omitempty"` // why, unless the client said goodbye
}

func (DatabaseSessionEnd) name() (string, string) { return "db.session.end", "TDB01I" }

// DatabaseQuery is a simple query. It fails when it was not let through.
type DatabaseQuery struct {
	Outcome
	Query      string    `json:"db_query"`
	Parameters []*string `json:"db_query_parameters,omitempty"` // nil is NULL
	Shortened
}

func (e *DatabaseQuery) name() (string, string) { return "db.session.query", e.code("TDB02") }

// DatabaseResult is what became of a request of the client.
type DatabaseResult struct {
	Outcome
	Request string `json:"request"` // query, execute, function call, parse, bind, describe, close or commit
	Became  string `json:"outcome"` // done, failed, skipped, suspended or unknown
	// The "ei" of the event of the request, and of those that made the statement and
	// the portal which PostgreSQL used; zero where not known.
	RequestIndex    int64    `json:"request_ei,omitempty"`
	ParseIndex      int64    `json:"parse_ei,omitempty"`
	BindIndex       int64    `json:"bind_ei,omitempty"`
	StatementName   string   `json:"statement_name,omitempty"`
	PortalName      string   `json:"portal_name,omitempty"`
	Tags            []string `json:"command_tags,omitempty"`
	AffectedRecords uint64   `json:"affected_records"`
	CopyBytes       int64    `json:"copy_bytes,omitempty"`
	SQLState        string   `json:"sqlstate,omitempty"`
	TxStatus        string   `json:"tx_status,omitempty"` // I idle, T in transaction, E in failed transaction
	DurationMS      float64  `json:"duration_ms"`         // to the microsecond
}

func (*DatabaseResult) name() (string, string) { return "db.session.result", "TDB10I" }

// CopyStart is the moment at which PostgreSQL begins to send or take the data of a
// COPY. Its result tells how many bytes it were.
type CopyStart struct {
	Direction    string `json:"direction"` // in, out or both
	RequestIndex int64  `json:"request_ei,omitempty"`
}

func (*CopyStart) name() (string, string) { return "db.session.postgres.copy.start", "TPA02I" }

// MalformedPacket is a message from the client that is not PostgreSQL protocol.
type MalformedPacket struct {
	Session
	Database
	Error string `json:"error"` // what is wrong with it
}

func (MalformedPacket) name() (string, string) { return "db.session.malformed_packet", "TDB06I" }

// PermissionsUpdate is the set of object permissions that a session gets.
type PermissionsUpdate struct {
	Session
	Database
	Outcome
	Permissions []PermissionCount `json:"permission_summary,omitempty"`
	Objects     map[string]int    `json:"affected_object_counts,omitempty"` // by kind of object
	Provisioned
}

// Provisioned says what a change in PostgreSQL took.
type Provisioned struct {
	Statements int     `json:"statements"`
	DurationMS float64 `json:"duration_ms"` // to the microsecond
}

// PermissionCount says on how many objects of each kind a permission is held.
type PermissionCount struct {
	Permission string         `json:"permission"`
	Counts     map[string]int `json:"counts"`
}

func (e PermissionsUpdate) name() (string, string) {
	return "db.session.permissions.update", e.code("TDB07")
}

// DatabaseUserCreate is a database user made or enabled for a session.
type DatabaseUserCreate struct {
	Session
	Database
	Outcome
	Username string `json:"username"`
	Provisioned
}

func (e DatabaseUserCreate) name() (string, string) { return "db.user.create", e.code("TDB08") }

// DatabaseUserDeactivate is a database user disabled or dropped.
type DatabaseUserDeactivate struct {
	Session
	Database
	Outcome
	Username string `json:"username"`
	Delete   bool   `json:"delete"` // dropped, not only disabled
	Provisioned
}

func (e DatabaseUserDeactivate) name() (string, string) {
	return "db.user.deactivate", e.code("TDB09")
}

// ClientDisconnect is a session that was ended from our side.
type ClientDisconnect struct {
	Session
	Database
	Reason string `json:"reason"`
}

func (ClientDisconnect) name() (string, string) { return "client.disconnect", "T3006I" }
