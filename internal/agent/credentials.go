package agent

import (
	"context"
	"crypto/tls"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/resource"
)

// credentials are how the agent proves to one server who a connection is for, by
// the method of the database. Each question has one place: what is shown while TLS
// is set up, what answers a server that asks the admin user for a password, and
// what answers it for a database user.
type credentials struct {
	method  resource.AuthMethod
	clients *clientCertificates // of the method certificate
	cloud   *aws.Cloud          // of the method iam
	login   aws.Login           // of the method iam, without endpoint and user
}

// password answers a server that asks for one; nil where there is none.
type password func(context.Context) (string, error)

// certificate returns what is shown to the server while TLS is set up; nil where
// the method wants nothing shown.
func (c *credentials) certificate(ctx context.Context, databaseUser string) (*tls.Certificate, error) {
	if c.method != resource.AuthCertificate {
		return nil, nil
	}
	return c.clients.get(ctx, databaseUser)
}

// showing returns cfg with a certificate that is shown, if there is one. cfg is not
// changed, and may be nil for a connection without TLS.
func showing(cfg *tls.Config, cert *tls.Certificate) *tls.Config {
	if cfg == nil || cert == nil {
		return cfg
	}
	cfg = cfg.Clone()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	return cfg
}

// ofAdmin returns the admin user's password on a host.
func (c *credentials) ofAdmin(host, admin string) password {
	if c.method == resource.AuthIAM {
		return c.token(host, admin)
	}
	return nil
}

// ofSession returns the password for one login of the session's database user on a
// host, and what to call as soon as that login has succeeded or failed.
func (c *credentials) ofSession(_ context.Context, host string, s *session) (password, func(), error) {
	if c.method == resource.AuthIAM {
		return c.token(host, s.account), func() {}, nil
	}
	return nil, func() {}, nil
}

// token returns a password that Amazon's RDS takes for one login.
func (c *credentials) token(host, databaseUser string) password {
	login := c.login
	login.Endpoint, login.User = host, databaseUser
	return func(ctx context.Context) (string, error) { return c.cloud.Token(ctx, login) }
}
