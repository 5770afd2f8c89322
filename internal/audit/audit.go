// Package audit records what happened, so that nothing is lost and nothing can
// be changed afterwards without being noticed.
//
// The record is a directory of JSONL segments. Each line is one flat JSON object
// with the field names and codes that existing SIEM rules know, and is chained
// to the line before (chain.go says how). [Open] opens a [Log] for writing; one
// process writes at a time. [Read], [Follow] and [Verify] need no Log and work
// while somebody else writes.
//
// There are two ways to write. [Log.Emit] returns when the event is durable: for
// everything that must not have an effect unless it is on record. [Log.Post]
// returns when the event is queued, and blocks instead of dropping when the
// queue is full; [Log.Stream] is the same for statements, of which there are many.
// Once a write fails, all refuse everything until the log is opened again: no
// record, no access.
package audit

import "github.com/postern-db/postern/internal/fault"

// Event is something that happened. The events of this package are the only
// ones. They are values, but for [Statement]; the log adds time, unique id, cluster and
// chain.
type Event interface {
	// name returns the type of the event and its code. Codes end with I when
	// something went as intended, with W when it was refused or failed.
	name() (event, code string)
}

// UserKind says what kind of user acted.
type UserKind int

// The kinds of users. The numbers are part of the format.
const (
	Human UserKind = 1
	Bot   UserKind = 2
)

// Actor is who did something, from where.
type Actor struct {
	User       string   `json:"user,omitempty"`
	UserKind   UserKind `json:"user_kind,omitempty"`
	RemoteAddr string   `json:"addr.remote,omitempty"` // address and port of the client
}

// Session is the database session that an event belongs to.
type Session struct {
	Actor
	ID       string `json:"sid,omitempty"`
	Index    int64  `json:"-"`                   // counts the events of the session from 0; written as "ei"
	ServerID string `json:"server_id,omitempty"` // the agent that carries the session
}

func (s Session) index() int64 { return s.Index }

// Database is the database that an event is about.
type Database struct {
	Service      string   `json:"db_service,omitempty"`
	Protocol     string   `json:"db_protocol,omitempty"`
	URI          string   `json:"db_uri,omitempty"`
	DatabaseName string   `json:"db_name,omitempty"`
	DatabaseUser string   `json:"db_user,omitempty"`
	Roles        []string `json:"db_roles,omitempty"`
	Type         string   `json:"db_type,omitempty"`
	Origin       string   `json:"db_origin,omitempty"`
}

// Outcome says how it went. The zero value is a failure.
type Outcome struct {
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`   // everything known, for operators
	Message string `json:"message,omitempty"` // what the user was told
}

// OutcomeOf returns the outcome of something that returned err.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Outcome{Success: true}
	}
	return Outcome{Error: fault.Chain(err), Message: fault.Of(err).Text}
}

// code appends the letter of the outcome to the number of an event.
func (o Outcome) code(number string) string {
	if o.Success {
		return number + "I"
	}
	return number + "W"
}
