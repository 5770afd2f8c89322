package hub

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/signin"
)

// defaultLoginTTL is the life of a login certificate when neither the request nor
// a role says otherwise (behaviour.md §2.1).
const defaultLoginTTL = 12 * time.Hour

func (s *Server) ping(context.Context, caller, api.Empty) (api.PingResponse, error) {
	return api.PingResponse{Cluster: s.cfg.Cluster, Version: s.cfg.Version, CAPin: s.CAPin()}, nil
}

// login proves a person by password, or by invitation and a new password, and
// issues the login certificate. Every attempt is on record before it is answered.
func (s *Server) login(ctx context.Context, who caller, in api.LoginRequest) (api.LoginResponse, error) {
	pub, err := ca.ParseCSR([]byte(in.CSR))
	if err != nil {
		return api.LoginResponse{}, err
	}
	user, err := s.signIn(ctx, who, in)
	actor := audit.Actor{User: in.User, UserKind: audit.Human, RemoteAddr: who.addr}
	record := s.cfg.Audit.Emit(ctx, audit.Login{Actor: actor, Outcome: audit.OutcomeOf(err), Method: "local"})
	if err = cmp.Or(err, record); err != nil {
		return api.LoginResponse{}, err
	}
	id := identity.Identity{
		User: user.GetName(), Cluster: s.cfg.Cluster, Roles: user.Spec.Roles, Traits: user.Spec.Traits,
		Expires: s.now().Add(s.loginTTL(user, in.TTLSeconds)),
	}
	cert, err := s.issueUser(ctx, who, id, pub)
	if err != nil {
		return api.LoginResponse{}, err
	}
	return api.LoginResponse{
		User: id.User, Cluster: id.Cluster, Roles: id.Roles, Expires: cert.NotAfter,
		Certificate: string(ca.EncodeCertificates(cert)),
		HostCAs:     string(ca.EncodeCertificates(s.cas.host.Certificate())),
	}, nil
}

// signIn checks the password even of users that do not exist: the answer and the
// time it takes must not tell who does.
func (s *Server) signIn(ctx context.Context, who caller, in api.LoginRequest) (*resource.User, error) {
	var err error
	if in.Invitation != "" {
		err = s.signin.Redeem(ctx, signin.Token(in.Invitation), in.User, signin.Password(in.Password))
	} else {
		err = s.signin.Check(ctx, in.User, signin.Password(in.Password), who.addr)
	}
	if err != nil {
		return nil, err
	}
	view, _ := s.View()
	user, ok := view.User(in.User)
	if !ok {
		return nil, fault.New(fault.Unauthenticated, "user name or password is wrong")
	}
	return user, nil
}

// loginTTL is what was asked for, but no more than any role of the user allows.
func (s *Server) loginTTL(user *resource.User, wantedSeconds int64) time.Duration {
	return min(lifetime(wantedSeconds, defaultLoginTTL, year), s.bind(user).Limits().MaxSessionTTL)
}

const year = 365 * 24 * time.Hour

// lifetime is what was asked for, or a default, within a limit that also keeps the
// multiplication from overflowing.
func lifetime(seconds int64, otherwise, most time.Duration) time.Duration {
	if seconds <= 0 {
		return otherwise
	}
	return time.Duration(min(seconds, int64(most/time.Second))) * time.Second
}

// issueUser issues a user certificate, which is on record before it leaves.
func (s *Server) issueUser(ctx context.Context, who caller, id identity.Identity, pub crypto.PublicKey) (*x509.Certificate, error) {
	cert, err := s.cas.user.IssueUser(id, pub, id.Expires.Sub(s.now()))
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", id.User, err)
	}
	err = s.cfg.Audit.Emit(ctx, audit.CertificateCreate{
		Actor:    audit.Actor{User: id.User, UserKind: audit.Human, RemoteAddr: who.addr},
		Database: audit.Database{Service: id.Route.Database, DatabaseName: id.Route.DatabaseName, DatabaseUser: id.Route.DatabaseUser, Roles: id.Route.DatabaseRole},
		CertType: string(ca.User), Subject: id.User, UserRoles: id.Roles,
		Serial: cert.SerialNumber.Text(16), Expires: audit.Time{Time: cert.NotAfter},
	})
	return cert, err
}
