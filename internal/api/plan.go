package api

// PlanDatabase shows what provisioning would do for a session.
func PlanDatabase() Endpoint[PlanDatabaseRequest, PlanDatabaseResponse] {
	return Endpoint[PlanDatabaseRequest, PlanDatabaseResponse]{"plan-database", "/v1/databases/plan", "Show what provisioning would do for a session now", LoggedIn, 64 * kilobytes, slow}
}

// PlanDatabaseRequest describes the session. Only the hub's owner may name somebody else.
type PlanDatabaseRequest struct {
	Name          string   `json:"name" doc:"registered database"`
	User          string   `json:"user,omitempty" doc:"whose session; empty for the caller's own"`
	DatabaseName  string   `json:"db_name,omitempty" doc:"may be left out where only one is allowed"`
	DatabaseRoles []string `json:"db_roles,omitempty" doc:"only these of the db roles; left out for all"`
}

// PlanDatabaseResponse says what a session would find and what would be written for it.
type PlanDatabaseResponse struct {
	Mode          string     `json:"create_db_user_mode" doc:"off: nothing is ever done"`
	DatabaseName  string     `json:"db_name"`
	DatabaseUser  string     `json:"db_user" doc:"account that the session would log in as"`
	DatabaseRoles []string   `json:"db_roles"`
	Bundle        string     `json:"bundle,omitempty" doc:"role that holds the object permissions"`
	Exists        bool       `json:"exists" doc:"the account is there"`
	Sessions      int        `json:"sessions" doc:"that the account has now"`
	Steps         []PlanStep `json:"steps" doc:"in order; none when nothing is to be done"`
	Missing       string     `json:"missing,omitempty" doc:"object permissions that the session would lack"`
	MissingHint   string     `json:"missing_hint,omitempty" doc:"what repairs that"`
}

// PlanStep is a statement and the reason for it.
type PlanStep struct {
	SQL string `json:"sql"`
	Why string `json:"why"`
}
