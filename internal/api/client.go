package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// maxResponse bounds what a client reads of an answer; the largest one is a
// listing of ten thousand databases.
const maxResponse = 64 << 20

// Client calls the API of one hub.
type Client struct {
	HTTP *http.Client // carries the TLS configuration and with it the caller's certificate
	Base string       // https://host:port, without a slash at the end
}

// Call runs the operation. Errors are faults; one that says nothing came back
// is Unavailable.
func (e Endpoint[In, Out]) Call(ctx context.Context, c *Client, in In) (Out, error) {
	var out Out
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encode %s request: %w", e.ID, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+e.Path, bytes.NewReader(body))
	if err != nil {
		return out, fmt.Errorf("call %s: %w", e.ID, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return out, unreachable(c.Base, err)
	}
	defer resp.Body.Close()
	if err := responseError(resp); err != nil {
		return out, err
	}
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&out); err != nil {
		return out, fault.Newf(fault.Unavailable, "the answer of %s cannot be read: %w", c.Base, err)
	}
	return out, nil
}

func unreachable(base string, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok { // made by our own dialer or verifier
		return f
	}
	if e, ok := errors.AsType[*url.Error](err); ok { // its text repeats method and URL
		err = e.Err
	}
	return fault.Newf(fault.Unavailable, "cannot reach %s: %w", strings.TrimPrefix(base, "https://"), err).
		WithHint("is this the address of the hub, and does it run? 'postern ctl status' on its machine tells")
}

func responseError(resp *http.Response) error {
	if resp.StatusCode < 300 {
		return nil
	}
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&e); err != nil {
		e = Error{Status: resp.StatusCode, Title: resp.Status}
	}
	e.Status = resp.StatusCode
	return e.Fault()
}
