package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// The reasons for which the agent ends a running session, as the client reads
// them. The SQLSTATEs are PostgreSQL's own for the same events.

// noticeSibling tells a person why current_user is not the own name.
func noticeSibling(account, user string) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityNotice, Code: "00000",
		Message: fmt.Sprintf("connected as %q, because %q is in use with other db roles", account, user),
	}
}

// noticeMissing tells a person that the session has less than policy gives it.
func noticeMissing(missing *fault.Error) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityNotice, Code: "01007",
		Message: "not all object permissions were given: " + missing.Text,
		Hint:    missing.Hint,
	}
}

// noticeEnding tells a person that the session is going to end, and of what.
func noticeEnding(left time.Duration, why *pgwire.Error) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityNotice, Code: "00000",
		Message: fmt.Sprintf("this session ends in %s", left.Round(time.Second)),
		Detail:  "Then it will say: " + why.Message,
		Hint:    "Finish what you are doing. " + why.Hint,
	}
}

func endShutdown() *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: "terminating connection because the gateway is shutting down",
		Hint:    "Connect again in a moment.",
	}
}

func endRemoved(database string) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: fmt.Sprintf("terminating connection because database %q is not served any more", database),
		Hint:    "Ask your administrator, or list the databases you may reach with: postern db ls",
	}
}

func endRevoked(why *fault.Error) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: "terminating connection because access was taken away: " + why.Text,
		Detail:  why.Detail, Hint: why.Hint,
	}
}

func endTaken(why *fault.Error) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: "terminating connection because the database user was taken away on the writer: " + why.Text,
		Detail:  why.Detail, Hint: why.Hint,
	}
}

func endNarrowed(lost []string) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: "terminating connection because db roles were taken away: " + strings.Join(lost, ", "),
		Hint:    "Connect again to go on with the db roles that are left.",
	}
}

func endNarrowedObjects() *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: "terminating connection because object permissions were taken away that it could have gone on to use",
		Hint:    "Connect again to go on with the permissions that are left.",
	}
}

func endExpired(at time.Time) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: "client certificate expired at " + at.UTC().Format(time.RFC3339),
		Hint:    "Log in again with: postern login",
	}
}

func endTooLong(limit time.Duration) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P01",
		Message: fmt.Sprintf("terminating connection because the session has lasted for %s, as long as policy allows", resource.Duration(limit)),
		Hint:    "Connect again. The limit is max_session_ttl of your roles.",
	}
}

func endIdle(limit time.Duration) *pgwire.Error {
	return &pgwire.Error{
		Severity: pgwire.SeverityFatal, Code: "57P05",
		Message: fmt.Sprintf("Client exceeded idle timeout of %s", limit),
		Hint:    "Connect again.",
	}
}
