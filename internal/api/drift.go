package api

// DriftDatabase compares the managed roles on a server with policy.
func DriftDatabase() Endpoint[DriftDatabaseRequest, DriftDatabaseResponse] {
	return Endpoint[DriftDatabaseRequest, DriftDatabaseResponse]{"drift-database", "/v1/databases/drift", "Find managed accounts and bundles that differ from policy", HubOwner, 64 * kilobytes, slow}
}

// DriftDatabaseRequest names a registered database.
type DriftDatabaseRequest struct {
	Name string `json:"name"`
}

// DriftDatabaseResponse lists the deviations; none when all is as policy says.
type DriftDatabaseResponse struct {
	Deviations []Deviation `json:"deviations"`
}

// Deviation is a difference between a managed role and policy.
type Deviation struct {
	Role     string   `json:"role" doc:"database user or bundle"`
	Check    string   `json:"check" doc:"what was looked at, for programs"`
	Problem  string   `json:"problem" doc:"what is the case"`
	Matters  string   `json:"matters" doc:"what that means"`
	Repair   string   `json:"repair,omitempty" doc:"what repairs it without anybody's doing"`
	Database string   `json:"db_name,omitempty" doc:"logical database in which to run the SQL; any where it is empty"`
	SQL      []string `json:"sql,omitempty" doc:"statements that repair it, for a superuser"`
}
