package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

const (
	dialTimeout      = 10 * time.Second // reaching a hub takes a round trip; longer means it is not there
	handshakeTimeout = 10 * time.Second // two round trips and a signature
)

// certificate is a key with its certificate, as read from one of our files.
type certificate struct {
	tls  tls.Certificate
	leaf *x509.Certificate
}

// parseBundle reads a file made by [Key.bundle]; blocks of other types are skipped.
func parseBundle(data []byte) (*certificate, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	return &certificate{tls: pair, leaf: leaf}, nil
}

// pemBlock returns the content of the first block of that type, or nil.
func pemBlock(data []byte, kind string) []byte {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			return block.Bytes
		}
	}
	return nil
}

// Hub is a hub as the user of a profile sees it. It is safe for concurrent use.
type Hub struct {
	Profile *Profile

	home    *Home
	caller  *api.Client
	hostCAs *x509.CertPool
}

// Connect prepares calls in the name of p; it does not call yet. An expired or
// missing login is Unauthenticated.
func (h *Home) Connect(p *Profile) (*Hub, error) {
	if h.Expired(p) {
		return nil, fault.Newf(fault.Unauthenticated, "the login at %s has expired", p.Address).WithHint(p.LoginHint())
	}
	host, _, err := net.SplitHostPort(p.Address)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "%q is not the address of a hub", p.Address)
	}
	data, err := ReadFile(h.loginFile(p), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Newf(fault.Unauthenticated, "not logged in to %s", p.Address).WithHint(p.LoginHint())
	}
	if err != nil {
		return nil, err
	}
	login, err := parseBundle(data)
	if err != nil {
		return nil, fault.Newf(fault.Unauthenticated, "the login at %s is damaged: %w", p.Address, err).WithHint(p.LoginHint())
	}
	hostCAs, err := h.hostCAs(p)
	if err != nil {
		return nil, fault.Newf(fault.Unauthenticated, "the host CAs of %s are damaged: %w", p.Address, err).WithHint(p.LoginHint())
	}
	t := &trust{address: p.Address, host: host, hostCAs: hostCAs, systemRoots: p.SystemRoots}
	return &Hub{Profile: p, home: h, hostCAs: hostCAs, caller: newAPI(t, login)}, nil
}

// Close closes idle connections to the hub.
func (h *Hub) Close() { h.caller.HTTP.CloseIdleConnections() }

// Databases lists the databases that the user may reach.
func (h *Hub) Databases(ctx context.Context, req api.ListDatabasesRequest) ([]api.Database, error) {
	resp, err := api.ListDatabases().Call(ctx, h.caller, req)
	return resp.Databases, h.explain(err)
}

// PlanDatabase asks what a session of the user would change in PostgreSQL.
func (h *Hub) PlanDatabase(ctx context.Context, req api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error) {
	resp, err := api.PlanDatabase().Call(ctx, h.caller, req)
	return resp, h.explain(err)
}

// explain adds to a refused login how to renew it.
func (h *Hub) explain(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unauthenticated && f.Hint == "" {
		return f.WithHint(h.Profile.LoginHint())
	}
	return err
}
