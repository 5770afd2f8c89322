package pgwire

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// Severities of errors and notices, as PostgreSQL spells them.
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityNotice  = "NOTICE"
	SeverityWarning = "WARNING"
)

// maxErrorField cuts the text of one field. libpq gives up on an error of more
// than 30,000 bytes before authentication.
const maxErrorField = 6000

// ErrorField is a field of an ErrorResponse that has no name in [Error].
type ErrorField struct {
	Type  byte
	Value string
}

// Error is an ErrorResponse or NoticeResponse: one that we send, or one that the
// server sent, with all its fields. Found by errors.As as [*pgconn.PgError] too.
type Error struct {
	Severity string // V, one of the Severity constants; empty means ERROR
	Code     string // C, the SQLSTATE; empty means XX000
	Message  string // M
	Detail   string // D
	Hint     string // H
	// Extra holds the other fields in the order received, among them the
	// localised severity S where it differs from V.
	Extra []ErrorField
}

func (e *Error) Error() string {
	return e.severity() + ": " + e.Message + " (SQLSTATE " + e.code() + ")"
}

// SQLState returns the SQLSTATE.
func (e *Error) SQLState() string { return e.code() }

// As lets errors.As and errors.AsType find e as a *pgconn.PgError, which is what
// code written against pgx asks for.
func (e *Error) As(target any) bool {
	p, ok := target.(**pgconn.PgError)
	if ok {
		*p = e.PgError()
	}
	return ok
}

// PgError returns e in the form that pgx uses.
func (e *Error) PgError() *pgconn.PgError {
	p := &pgconn.PgError{
		Severity: e.severity(), SeverityUnlocalized: e.severity(),
		Code: e.code(), Message: e.Message, Detail: e.Detail, Hint: e.Hint,
	}
	for _, f := range e.Extra {
		switch f.Type {
		case 'S':
			p.Severity = f.Value
		case 'P':
			p.Position = atoi32(f.Value)
		case 'p':
			p.InternalPosition = atoi32(f.Value)
		case 'q':
			p.InternalQuery = f.Value
		case 'W':
			p.Where = f.Value
		case 's':
			p.SchemaName = f.Value
		case 't':
			p.TableName = f.Value
		case 'c':
			p.ColumnName = f.Value
		case 'd':
			p.DataTypeName = f.Value
		case 'n':
			p.ConstraintName = f.Value
		case 'F':
			p.File = f.Value
		case 'L':
			p.Line = atoi32(f.Value)
		case 'R':
			p.Routine = f.Value
		}
	}
	return p
}

// errorOf is the inverse of [Error.PgError].
func errorOf(p *pgconn.PgError) *Error {
	e := &Error{Severity: p.SeverityUnlocalized, Code: p.Code, Message: p.Message, Detail: p.Detail, Hint: p.Hint}
	if e.Severity == "" {
		e.Severity = p.Severity
	}
	add := func(typ byte, value string) {
		if value != "" {
			e.Extra = append(e.Extra, ErrorField{typ, value})
		}
	}
	number := func(typ byte, n int32) {
		if n != 0 {
			add(typ, strconv.Itoa(int(n)))
		}
	}
	if p.Severity != e.Severity {
		add('S', p.Severity)
	}
	number('P', p.Position)
	number('p', p.InternalPosition)
	add('q', p.InternalQuery)
	add('W', p.Where)
	add('s', p.SchemaName)
	add('t', p.TableName)
	add('c', p.ColumnName)
	add('d', p.DataTypeName)
	add('n', p.ConstraintName)
	add('F', p.File)
	number('L', p.Line)
	add('R', p.Routine)
	return e
}

// cut returns at most n bytes of s without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func atoi32(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func (e *Error) severity() string {
	if e.Severity == "" {
		return SeverityError
	}
	return e.Severity
}

func (e *Error) code() string {
	if e.Code == "" {
		return sqlState(fault.Internal)
	}
	return e.Code
}

// Append appends e as an ErrorResponse. S, V, C and M are always there: some
// drivers fail on an error without them.
func (e *Error) Append(dst []byte) []byte { return e.append(dst, 'E') }

// AppendNotice appends e as a NoticeResponse.
func (e *Error) AppendNotice(dst []byte) []byte { return e.append(dst, 'N') }

func (e *Error) append(dst []byte, typ byte) []byte {
	dst, at := begin(dst, typ)
	field := func(typ byte, value string) {
		dst = appendCString(append(dst, typ), cut(value, maxErrorField))
	}
	localized := e.severity()
	for _, f := range e.Extra {
		if f.Type == 'S' {
			localized = f.Value
		}
	}
	field('S', localized)
	field('V', e.severity())
	field('C', e.code())
	field('M', e.Message)
	if e.Detail != "" {
		field('D', e.Detail)
	}
	if e.Hint != "" {
		field('H', e.Hint)
	}
	for _, f := range e.Extra {
		if f.Type != 'S' && f.Type != 0 {
			field(f.Type, f.Value)
		}
	}
	return finish(append(dst, 0), at)
}

// WriteError writes e to w as an ErrorResponse in one write.
func WriteError(w io.Writer, e *Error) error {
	_, err := w.Write(e.Append(nil))
	return err
}

// FromFault turns any error into the ErrorResponse that ends a running session.
//
// An [*Error] or a [*pgconn.PgError] in the chain keeps its own SQLSTATE, message
// and other fields; a fault around it adds its text as DETAIL and its hint as
// HINT where PostgreSQL gave none. Everything else becomes what the kind of its
// outermost fault stands for; an error without a fault shows none of its text.
func FromFault(err error) *Error { return fromFault(err, sqlState) }

// Refusal is [FromFault] for a session that has not begun: a denial is then
// 28000, which drivers report as a failed login.
func Refusal(err error) *Error {
	return fromFault(err, func(k fault.Kind) string {
		if k == fault.Denied {
			k = fault.Unauthenticated
		}
		return sqlState(k)
	})
}

func fromFault(err error, code func(fault.Kind) string) *Error {
	f, isFault := errors.AsType[*fault.Error](err)
	if e := serverError(err); e != nil {
		e.makeFatal()
		if isFault && e.Detail == "" && f.Text != e.Message {
			e.Detail = f.Text
		}
		if isFault && e.Hint == "" {
			e.Hint = f.Hint
		}
		return e
	}
	f = fault.Of(err)
	return &Error{Severity: SeverityFatal, Code: code(f.Kind), Message: f.Text, Detail: f.Detail, Hint: f.Hint}
}

// makeFatal raises an ERROR to FATAL, because the session ends with it. The
// localised word, which would contradict it, goes.
func (e *Error) makeFatal() {
	if e.severity() != SeverityError {
		return
	}
	e.Severity = SeverityFatal
	e.Extra = slices.DeleteFunc(slices.Clone(e.Extra), func(f ErrorField) bool { return f.Type == 'S' })
}

// serverError returns a copy of PostgreSQL's own error in err's chain, or nil.
func serverError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		c := *e
		return &c
	}
	if p, ok := errors.AsType[*pgconn.PgError](err); ok {
		return errorOf(p)
	}
	return nil
}

// sqlState is the table of SQLSTATEs that the kinds of faults stand for.
func sqlState(k fault.Kind) string {
	switch k {
	case fault.Invalid:
		return "08P01" // protocol_violation
	case fault.Unauthenticated:
		return "28000" // invalid_authorization_specification
	case fault.Denied:
		return "42501" // insufficient_privilege
	case fault.NotFound:
		return "3D000" // invalid_catalog_name
	case fault.Conflict:
		return "42710" // duplicate_object
	case fault.Unavailable:
		return "57P03" // cannot_connect_now
	case fault.Internal:
	}
	return "XX000" // internal_error
}
