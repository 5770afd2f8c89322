package agent_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// of selects the events of a user, of these codes or all.
func of(user string, codes ...string) audit.Filter { return audit.Filter{User: user, Events: codes} }

// contains reports whether text holds every part, in any case.
func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(p)) {
			return false
		}
	}
	return true
}

// refusal is what must be in an ErrorResponse.
type refusal struct {
	code string
	text string // in message or detail
	hint string // in the hint
}

func (r refusal) check(t *testing.T, got *pgconn.PgError) {
	t.Helper()
	if got.Code != r.code || !contains(got.Message+"\n"+got.Detail, r.text) || !contains(got.Hint, r.hint) {
		t.Errorf("got  %s %s\ndetail: %s\nhint: %s\nwant %s with %q and the hint %q", got.Code, got.Message, got.Detail, got.Hint, r.code, r.text, r.hint)
	}
	if got.Severity != "FATAL" {
		t.Errorf("severity is %q, want FATAL", got.Severity)
	}
}
