package pgwire

import "time"

// StatementKind tells which request a [Statement] is about.
type StatementKind int

// The kinds of statements. Of Parse, Bind, Describe and Close only those are
// recorded that failed, or whose outcome is not known.
const (
	KindQuery   StatementKind = iota + 1 // simple query, perhaps of several statements
	KindExecute                          // a portal of the extended protocol
	KindFunctionCall
	KindParse
	KindBind
	KindDescribe
	KindClose
	KindCommit // the implicit commit at the end of a pipeline; recorded only when it fails
)

func (k StatementKind) String() string {
	names := [...]string{"", "query", "execute", "function call", "parse", "bind", "describe", "close", "commit"}
	if k < 0 || int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Outcome tells what became of a statement.
type Outcome int

// The outcomes.
const (
	Done      Outcome = iota + 1
	Failed            // see SQLState
	Skipped           // never ran: an earlier request of the same pipeline failed
	Suspended         // a portal stopped at its row limit; another Execute may follow
	Unknown           // the session ended first, or answers could not be told apart any more
	Copying           // COPY has begun; another outcome of the same statement follows
)

func (o Outcome) String() string {
	names := [...]string{"", "done", "failed", "skipped", "suspended", "unknown", "copying"}
	if o < 0 || int(o) >= len(names) {
		return "unknown"
	}
	return names[o]
}

// CopyMode tells which way COPY moves data.
type CopyMode int

// The ways. Both is what replication uses.
const (
	CopyIn CopyMode = iota + 1
	CopyOut
	CopyBoth
)

func (m CopyMode) String() string {
	names := [...]string{"", "in", "out", "both"}
	if m < 0 || int(m) >= len(names) {
		return "unknown"
	}
	return names[m]
}

// Statement is what became of one request of a client. Its texts are valid UTF-8,
// whatever the client's encoding.
type Statement struct {
	Kind    StatementKind
	Outcome Outcome
	// ID is what [StatementsConfig].Request returned for the request, 0 where there
	// was none.
	ID int64
	// ParseID and BindID are those of the requests that made the statement and the
	// portal that the server used: names are resolved in the order of the server's
	// answers, not of the requests. They are 0 where that is not known.
	ParseID, BindID int64
	// Unresolved is set when the name of a portal or statement is not one that was
	// seen, for instance because it was made by SQL.
	Unresolved   bool
	Secret       bool   // as [StatementsConfig].Secret says of the SQL
	Name, Portal string // of the prepared statement and the portal; empty for unnamed ones
	// Tags are the command tags, several for a simple query of several statements; at
	// most 32 are kept. Rows is the sum of their counts, -1 where none counts rows.
	Tags              []string
	Rows              int64
	SQLState, Message string    // of the error
	Start, End        time.Time // when the request and the answer were read
	// Duration is from the request, or the answer to the one before it if that is
	// later, to the answer.
	Duration time.Duration
	// TxStatus is the transaction status that the server last reported: for a query
	// the one after it, for an Execute the one before its pipeline.
	TxStatus  byte
	Copy      CopyMode // the last one of the statement; 0 where it was no COPY
	CopyBytes int64    // moved by COPY, in either direction
}

// maxTags bounds the tags kept of one simple query.
const maxTags = 32
