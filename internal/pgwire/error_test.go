package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/fault"
)

func TestFromFault(t *testing.T) {
	t.Parallel()
	plain := errors.New("password=secret")
	fromServer := &Error{Severity: SeverityFatal, Code: "28P01", Message: "no", Extra: []ErrorField{{'R', "auth_failed"}}}
	fromPgx := &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "42704", Message: "role missing", Detail: "d", Hint: "h", Line: 7}
	tests := []struct {
		name string
		err  error
		want Error // severity is FATAL
		code string
	}{
		{name: "denied", err: fault.New(fault.Denied, "no").WithHint("ask").WithDetail("d"), want: Error{Code: "42501", Message: "no", Hint: "ask", Detail: "d"}, code: "28000"},
		{name: "unauthenticated", err: fault.New(fault.Unauthenticated, "who"), want: Error{Code: "28000", Message: "who"}},
		{name: "not found", err: fault.New(fault.NotFound, "what"), want: Error{Code: "3D000", Message: "what"}},
		{name: "invalid", err: fault.New(fault.Invalid, "bad"), want: Error{Code: "08P01", Message: "bad"}},
		{name: "conflict", err: fault.New(fault.Conflict, "there"), want: Error{Code: "42710", Message: "there"}},
		{name: "unavailable", err: fmt.Errorf("context: %w", fault.New(fault.Unavailable, "down")), want: Error{Code: "57P03", Message: "down"}},
		{name: "internal", err: plain, want: Error{Code: "XX000", Message: "internal error"}},
		{name: "hidden cause", err: fault.New(fault.Unavailable, "down").WithCause(plain), want: Error{Code: "57P03", Message: "down"}},
		{name: "server's", err: fmt.Errorf("x: %w", fromServer), want: *fromServer},
		{
			name: "server's with our hint", err: fault.New(fault.Denied, "cannot log in").WithHint("ask").WithCause(fromServer),
			want: Error{Code: "28P01", Message: "no", Detail: "cannot log in", Hint: "ask", Extra: fromServer.Extra},
		},
		{
			name: "of pgx, keeps its own words", err: fault.New(fault.Denied, "cannot grant").WithHint("ours").WithCause(fromPgx),
			want: Error{Code: "42704", Message: "role missing", Detail: "d", Hint: "h", Extra: []ErrorField{{'L', "7"}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.Severity = SeverityFatal
			if diff := cmp.Diff(&tt.want, FromFault(tt.err), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("FromFault (-want +got):\n%s", diff)
			}
			if tt.code != "" {
				tt.want.Code = tt.code
			}
			if diff := cmp.Diff(&tt.want, Refusal(tt.err), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Refusal (-want +got):\n%s", diff)
			}
		})
	}
	if fromServer.Detail != "" || fromPgx.Hint != "h" {
		t.Error("the original was changed")
	}
}

func TestErrorRoundTrip(t *testing.T) {
	t.Parallel()
	for _, e := range []*Error{
		{Severity: SeverityFatal, Code: "57P01", Message: "bye"},
		{Severity: SeverityError, Code: "42P01", Message: "m", Detail: "d", Hint: "h", Extra: []ErrorField{{'P', "7"}, {'q', "select"}, {'S', "FEHLER"}}},
	} {
		wire := e.Append(nil)
		if got := ParseError(wire[headerSize:]); !cmp.Equal(e, got) {
			t.Errorf("got %+v, want %+v", got, e)
		}
		var m pgproto3.ErrorResponse
		if err := m.Decode(wire[headerSize:]); err != nil || m.Code != e.Code || m.SeverityUnlocalized != e.Severity {
			t.Errorf("pgproto3 reads %+v, %v", m, err)
		}
		sorted := cmpopts.SortSlices(func(a, b ErrorField) bool { return a.Type < b.Type })
		if got := errorOf(e.PgError()); !cmp.Equal(e, got, sorted) {
			t.Errorf("through pgconn.PgError: %+v, want %+v", got, e)
		}
	}
}

func TestErrorAlwaysHasItsFields(t *testing.T) {
	t.Parallel()
	want := []byte("SERROR\x00VERROR\x00CXX000\x00M\x00\x00")
	if got := (&Error{}).Append(nil)[headerSize:]; !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	e := &Error{Message: "a\x00Hinjected\x00" + strings.Repeat("ä", maxErrorField)}
	got := ParseError(e.Append(nil)[headerSize:])
	if got.Hint != "" || len(got.Message) > maxErrorField || !strings.HasSuffix(got.Message, "ä") {
		t.Errorf("hint %q, message of %d bytes", got.Hint, len(got.Message))
	}
	var pgErr *pgconn.PgError
	if !errors.As(error(&Error{Code: "42501"}), &pgErr) || pgErr.Code != "42501" {
		t.Error("errors.As does not find a pgconn.PgError")
	}
}
