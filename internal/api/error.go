package api

import (
	"net/http"

	"github.com/postern-db/postern/internal/fault"
)

// Error is how a fault travels over HTTP. Its JSON is a problem document
// (RFC 9457) with two members of ours, kind and hint.
type Error struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Kind   string `json:"kind"`
	Hint   string `json:"hint,omitempty"`
}

// httpStatus is the one table from fault kinds to HTTP.
func httpStatus(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Internal:
	}
	return http.StatusInternalServerError
}

// ErrorOf returns what a client may see of err.
func ErrorOf(err error) *Error {
	f := fault.Of(err)
	code := httpStatus(f.Kind)
	text := f.Text
	if f.Detail != "" {
		text += "\n" + f.Detail
	}
	return &Error{Status: code, Title: http.StatusText(code), Detail: text, Kind: f.Kind.String(), Hint: f.Hint}
}

func (e *Error) Error() string { return e.Detail }

// GetStatus is the HTTP status, for the HTTP framework.
func (e *Error) GetStatus() int { return e.Status }

// Fault turns an error that came over HTTP back into the fault it was.
func (e *Error) Fault() *fault.Error {
	kind := fault.ParseKind(e.Kind)
	if e.Kind == "" { // not written by us: the framework's own validation, or a proxy in between
		kind = kindOf(e.Status)
	}
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	return fault.New(kind, text).WithHint(e.Hint)
}

func kindOf(status int) fault.Kind {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		if httpStatus(k) == status {
			return k
		}
	}
	if status >= 400 && status < 500 {
		return fault.Invalid
	}
	return fault.Unavailable
}
