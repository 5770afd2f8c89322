package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

// verifyTimeout bounds the check of a whole audit log: hundreds of megabytes of it
// are read in a second.
const verifyTimeout = 10 * time.Minute

// VerifyAudit checks the chain of the audit log. A log that is not what was written
// is Invalid, with the place.
func VerifyAudit() Endpoint[Empty, audit.Report] {
	return Endpoint[Empty, audit.Report]{"verify-audit", "/v1/audit/verify", "Check the chain of the audit log", HubOwner, kilobytes, verifyTimeout}
}

// AuditPath streams the audit log as JSON lines to the hub owner; its parameters are
// those of [AuditQuery].
const AuditPath = "/v1/audit/events"

// AuditQuery says which events are wanted.
type AuditQuery struct {
	// Lines begins with the last so many lines of the log; negative: with the first.
	Lines  int
	Follow bool // and goes on with those that come
	Filter audit.Filter
}

// values returns q as the parameters of a URL.
func (q AuditQuery) values() url.Values {
	v := url.Values{"lines": {strconv.Itoa(q.Lines)}}
	if q.Follow {
		v.Set("follow", "1")
	}
	for _, event := range q.Filter.Events {
		v.Add("event", event)
	}
	for name, value := range map[string]string{"user": q.Filter.User, "session": q.Filter.Session, "database": q.Filter.Database} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, value := range map[string]time.Time{"since": q.Filter.Since, "until": q.Filter.Until} {
		if !value.IsZero() {
			v.Set(name, value.UTC().Format(time.RFC3339Nano))
		}
	}
	return v
}

// ParseAuditQuery reads the parameters of a URL. The error is Invalid.
func ParseAuditQuery(v url.Values) (AuditQuery, error) {
	lines, linesErr := strconv.Atoi(v.Get("lines"))
	if !v.Has("lines") {
		lines, linesErr = 0, nil
	}
	since, sinceErr := parseTime(v.Get("since"))
	until, untilErr := parseTime(v.Get("until"))
	if err := errors.Join(linesErr, sinceErr, untilErr); err != nil {
		return AuditQuery{}, fault.Newf(fault.Invalid, "these events cannot be asked for: %w", err)
	}
	return AuditQuery{
		Lines: lines, Follow: v.Get("follow") == "1",
		Filter: audit.Filter{
			Events: v["event"], User: v.Get("user"), Session: v.Get("session"), Database: v.Get("database"), Since: since, Until: until,
		},
	}, nil
}

func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

// Audit opens the stream of audit events as JSON lines; the caller closes it.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+AuditPath+"?"+q.values().Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, unreachable(c.Base, err)
	}
	if err := responseError(resp); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp.Body, nil
}
