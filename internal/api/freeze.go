package api

import "time"

// FreezeDatabase switches automatic users of a database off at once. Sessions go on.
func FreezeDatabase() Endpoint[FreezeDatabaseRequest, Empty] {
	return Endpoint[FreezeDatabaseRequest, Empty]{"freeze-database", "/v1/databases/freeze", "Switch automatic users off", HubOwner, 64 * kilobytes, brief}
}

// FreezeDatabaseRequest names a registered database.
type FreezeDatabaseRequest struct {
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty" doc:"shown to people who are refused"`
}

// UnfreezeDatabase switches automatic users of a database on again. What became
// due meanwhile is done.
func UnfreezeDatabase() Endpoint[UnfreezeDatabaseRequest, Empty] {
	return Endpoint[UnfreezeDatabaseRequest, Empty]{"unfreeze-database", "/v1/databases/unfreeze", "Switch automatic users on again", HubOwner, 64 * kilobytes, brief}
}

// UnfreezeDatabaseRequest names a database.
type UnfreezeDatabaseRequest struct {
	Name string `json:"name"`
}

// Freeze says that automatic users of a database are switched off: nothing is
// written to its server.
type Freeze struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}
