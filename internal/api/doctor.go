package api

import "github.com/postern-db/postern/internal/access"

// DoctorDatabase examines a server as the agent that serves it sees it.
func DoctorDatabase() Endpoint[DoctorDatabaseRequest, DoctorDatabaseResponse] {
	return Endpoint[DoctorDatabaseRequest, DoctorDatabaseResponse]{"doctor-database", "/v1/databases/doctor", "Find what stands in the way of a database", HubOwner, 64 * kilobytes, slow}
}

// ServedDatabases lists what the agents serve, with the labels that hold now. Those
// of a configuration file are among them, which are no resources of the hub.
func ServedDatabases() Endpoint[Empty, ServedDatabasesResponse] {
	return Endpoint[Empty, ServedDatabasesResponse]{"served-databases", "/v1/databases/served", "List the databases that agents serve", HubOwner, kilobytes, brief}
}

// ServedDatabasesResponse is sorted by name. Each is of kind db.
type ServedDatabasesResponse struct {
	Databases []Resource `json:"databases"`
}

// DoctorDatabaseRequest names a registered database.
type DoctorDatabaseRequest struct {
	Name string `json:"name"`
}

// DoctorDatabaseResponse lists the findings. Their SQL runs in this order.
type DoctorDatabaseResponse struct {
	Findings []Finding `json:"findings"`
}

// SeverityError is the severity of findings because of which sessions are refused.
const SeverityError = "error"

// Finding is something about a server that stands in the way of its users.
type Finding struct {
	Severity string   `json:"severity" doc:"error, warning or advice"`
	Database string   `json:"database,omitempty" doc:"the logical database that the SQL must be run in; empty: any"`
	Check    string   `json:"check" doc:"what was looked at, for programs"`
	Problem  string   `json:"problem" doc:"what is the case"`
	Breaks   string   `json:"breaks,omitempty" doc:"what does not work because of it"`
	SQL      []string `json:"sql,omitempty" doc:"statements that repair it, for a superuser"`
	HBA      []string `json:"pg_hba,omitempty" doc:"lines for pg_hba.conf that repair it"`
	Advice   string   `json:"advice,omitempty" doc:"what to do besides, or instead"`
}

// Handout is what policy gives to some users of one database: the same roles on
// the same logical databases.
type Handout struct {
	Users     []string
	Roles     []string
	Databases []string // "*" for every one
	Except    []string // not these
	// Permissions are the db_permissions entries, those that deny too.
	Permissions []access.Permission
	// WarnMissing says that sessions begin without what cannot be granted of them.
	WarnMissing bool
	// Replication says that they may open replication connections.
	Replication bool
	// Reassign says that what they own is given away when their accounts are dropped.
	Reassign bool
}
