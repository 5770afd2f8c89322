package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

// Secret is text that must not be shown.
type Secret string

// String hides the secret from %v and %s.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[redacted]" }

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// LoginRequest is what a person brings to a login.
type LoginRequest struct {
	Address    string        // of the hub, see [ParseAddress]
	User       string        // name of the user
	Password   Secret        // with an invitation: the new password
	Invitation Secret        // one-time invitation; may be empty
	TTL        time.Duration // wanted lifetime; 0 means what the hub gives
	Pin        string        // sha256:<hex> of the host CA; empty means known host CAs, else the system's roots
}

// Login logs in, writes the profile and makes it the active one. The hub must
// prove itself before the password is sent. Errors: Unavailable when the hub is
// not reached or not trusted, Unauthenticated when it refuses the password,
// Invalid for bad input.
func (h *Home) Login(ctx context.Context, req LoginRequest) (*Profile, error) {
	address, err := ParseAddress(req.Address)
	if err != nil {
		return nil, err
	}
	trusted, err := h.loginTrust(address, req.Pin)
	if err != nil {
		return nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	caller := newAPI(trusted, nil)
	defer caller.HTTP.CloseIdleConnections()
	resp, err := api.Login().Call(ctx, caller, api.LoginRequest{
		User:       req.User,
		Password:   string(req.Password),
		Invitation: string(req.Invitation),
		CSR:        key.CSR,
		TTLSeconds: int64(req.TTL / time.Second),
	})
	if err != nil {
		return nil, err
	}
	return h.saveLogin(resp, key, &Profile{
		Address:     address,
		User:        resp.User,
		Cluster:     resp.Cluster,
		Roles:       resp.Roles,
		Expires:     resp.Expires,
		SystemRoots: trusted.systemRoots,
	})
}

// Check reaches the hub and verifies that it is the one, before a person is asked
// for a password. Errors are those of [Home.Login].
func (h *Home) Check(ctx context.Context, address, pin string) error {
	trusted, err := h.loginTrust(address, pin)
	if err != nil {
		return err
	}
	caller := newAPI(trusted, nil)
	defer caller.HTTP.CloseIdleConnections()
	_, err = api.Ping().Call(ctx, caller, api.Empty{})
	return err
}

// loginTrust decides what proves the hub before there is a login: the pin, or
// else what an earlier login learnt, or else the system's roots.
func (h *Home) loginTrust(address, pin string) (*trust, error) {
	t := &trust{address: address}
	var err error
	if t.host, _, err = net.SplitHostPort(address); err != nil {
		return nil, fault.Newf(fault.Invalid, "%q is not the address of a hub", address)
	}
	if t.pin, err = parsePin(pin); err != nil || t.pin != "" {
		return t, err
	}
	known, err := h.Profile(address)
	if err != nil { // none, or damaged: a new login replaces it
		t.systemRoots = true
		return t, nil
	}
	t.systemRoots = known.SystemRoots
	if t.hostCAs, err = h.hostCAs(known); err != nil {
		t.systemRoots = true
	}
	return t, nil
}

// saveLogin checks what the hub answered and writes it, the profile last: it
// makes the rest count.
func (h *Home) saveLogin(resp api.LoginResponse, key *Key, p *Profile) (*Profile, error) {
	if _, err := parseCAs([]byte(resp.HostCAs)); err != nil {
		return nil, fault.Newf(fault.Unavailable, "the hub answered with unusable host CAs: %w", err)
	}
	if p.User == "" || p.Cluster == "" {
		return nil, fault.New(fault.Unavailable, "the hub's answer names no user or no cluster")
	}
	bundle, err := key.bundle(resp.Certificate)
	if err != nil {
		return nil, err
	}
	// Certificates of an earlier user or cluster at this address end here.
	if old, err := h.Profile(p.Address); err == nil && (old.User != p.User || old.Cluster != p.Cluster) {
		if err := h.Logout(old); err != nil {
			return nil, err
		}
	}
	if err := h.write(h.hostCAFile(p), []byte(resp.HostCAs)); err != nil {
		return nil, err
	}
	if err := h.write(h.loginFile(p), bundle); err != nil {
		return nil, err
	}
	slices.Sort(p.Roles)
	return p, h.saveProfile(p)
}

// hostCAs reads the host CAs that the login of p learnt.
func (h *Home) hostCAs(p *Profile) (*x509.CertPool, error) {
	data, err := ReadFile(h.hostCAFile(p), maxFile)
	if err != nil {
		return nil, err
	}
	return parseCAs(data)
}

// newAPI returns a caller of the API over TLS; a nil certificate calls as nobody.
func newAPI(t *trust, cert *certificate) *api.Client {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     t.config(),
		TLSHandshakeTimeout: handshakeTimeout,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
	}
	c := &api.Client{Base: "https://" + t.address, HTTP: &http.Client{Transport: transport, CheckRedirect: noRedirect}}
	if cert != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{cert.tls}
		c.HTTP.Transport = &refusals{transport}
	}
	return c
}

// noRedirect keeps a password from following a redirect elsewhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// refusals turns a TLS alert of the hub, which is how it refuses a client
// certificate, into a fault.
type refusals struct{ *http.Transport }

func (r *refusals) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.Transport.RoundTrip(req)
	if refused(err) {
		err = fault.Newf(fault.Unauthenticated, "the hub refused the certificate: %w", err)
	}
	return resp, err
}

// refused reports whether err is an alert sent by the other side of a TLS connection.
func refused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
