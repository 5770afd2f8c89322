package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
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
	admin   resource.AdminUser  // of the method password: where the admin's is
}

// answer is what a server gets that asks for a password.
type answer struct {
	password  func(context.Context) (string, error) // nil: there is none
	scramOnly bool                                  // the password itself is never sent
	salted    []byte                                // instead of a password, for SCRAM; nil: there is none
}

func (a answer) to(cfg pgwire.StartConfig) pgwire.StartConfig {
	cfg.Password, cfg.SCRAMOnly, cfg.SaltedPassword = a.password, a.scramOnly, a.salted
	return cfg
}

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

// ofAdmin answers for the admin user on a host.
func (c *credentials) ofAdmin(host, admin string) answer {
	switch c.method {
	case resource.AuthIAM:
		return c.token(host, admin)
	case resource.AuthPassword:
		return answer{scramOnly: true, password: func(ctx context.Context) (string, error) { return adminSecret(ctx, c.admin) }}
	case resource.AuthCertificate:
	}
	return answer{}
}

// ofSession answers for one login of the session's database user on a host, and
// returns what to call as soon as that login has succeeded or failed.
func (c *credentials) ofSession(ctx context.Context, host string, s *session) (answer, func(), error) {
	switch {
	case c.method == resource.AuthIAM:
		return c.token(host, s.account), func() {}, nil
	case c.method != resource.AuthPassword:
		return answer{}, func() {}, nil
	case s.lease == nil:
		// Somebody else made the account, and knows its password.
		return answer{scramOnly: true, password: noPassword}, func() {}, nil
	}
	salted, done, err := s.lease.Password(ctx)
	if err != nil {
		return answer{}, nil, s.activationError(err)
	}
	return answer{scramOnly: true, salted: salted}, func() { s.endPassword(ctx, done) }, nil
}

// overtaken reports whether a refused login can be another agent's doing:
// PostgreSQL knows the database user but does not let it in, or does not know it
// any more, or has another password for it, or asks for another proof. Which line of
// pg_hba.conf counts may depend on the db roles: RDS takes tokens from members of
// rds_iam, and asks everybody else for a password.
func overtaken(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == invalidAuthorization || pg.Code == invalidPassword) || errors.Is(err, pgwire.ErrMethod)
}

func noPassword(context.Context) (string, error) {
	return "", fault.New(fault.Denied, "this database user was not made by Postern, which does not know its password").
		WithHint("give the user a role with create_db_user_mode, so that the account is made for each session")
}

// passwordEndTimeout bounds how long taking a password away may take.
const passwordEndTimeout = 5 * time.Second

// endPassword takes the password of the database user away. Where that fails it
// ends by itself within a minute, and at the latest with the release.
func (s *session) endPassword(ctx context.Context, done func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), passwordEndTimeout)
	defer cancel()
	if err := done(ctx); err != nil {
		s.log.Warn("password not taken away, it ends within a minute", slog.String("database_user", s.account), slog.String("error", fault.Chain(err)))
	}
}

// token returns a password that Amazon's RDS takes for one login.
func (c *credentials) token(host, databaseUser string) answer {
	login := c.login
	login.Endpoint, login.User = host, databaseUser
	return answer{password: func(ctx context.Context) (string, error) { return c.cloud.Token(ctx, login) }}
}
