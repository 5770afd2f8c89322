package audit

// StatementParse is a Parse message: a prepared statement.
type StatementParse struct {
	StatementName string `json:"statement_name"`
	Query         string `json:"query"`
	Shortened
}

func (*StatementParse) name() (string, string) {
	return "db.session.postgres.statements.parse", "TPG00I"
}

// StatementBind is a Bind message: a statement gets its parameters.
type StatementBind struct {
	StatementName string    `json:"statement_name"`
	PortalName    string    `json:"portal_name"`
	Parameters    []*string `json:"parameters,omitempty"`      // nil is NULL
	Sizes         []int     `json:"parameter_sizes,omitempty"` // in bytes as sent, where a value was cut
	Shortened
}

func (*StatementBind) name() (string, string) {
	return "db.session.postgres.statements.bind", "TPG01I"
}

// StatementExecute is an Execute message: a portal runs.
type StatementExecute struct {
	PortalName string `json:"portal_name"`
}

func (*StatementExecute) name() (string, string) {
	return "db.session.postgres.statements.execute", "TPG02I"
}

// StatementClose is a Close message, of a statement or of a portal.
type StatementClose struct {
	StatementName string `json:"statement_name,omitempty"`
	PortalName    string `json:"portal_name,omitempty"`
}

func (*StatementClose) name() (string, string) {
	return "db.session.postgres.statements.close", "TPG03I"
}

// FunctionCall is a call through the fast path, which carries no SQL.
type FunctionCall struct {
	FunctionOID uint32    `json:"function_oid"`
	Arguments   []*string `json:"function_args,omitempty"`      // nil is NULL
	Sizes       []int     `json:"function_arg_sizes,omitempty"` // in bytes as sent, where a value was cut
	Shortened
}

func (*FunctionCall) name() (string, string) { return "db.session.postgres.function", "TPG04I" }
