package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// superuser is the connection that does what has to be done on a server.
type superuser struct{ conn *pgconn.PgConn }

func (s *superuser) close(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.conn.Close(ctx)
}

// run runs statements one by one: some of them must not share a transaction.
func (s *superuser) run(ctx context.Context, statements []string) error {
	for _, sql := range statements {
		if _, err := s.conn.Exec(ctx, sql).ReadAll(); err != nil {
			if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
				return fault.New(fault.Denied, pg.Message).WithDetail(sql).WithCause(err).WithHint("run it as a superuser, or as the owner of what it is about")
			}
			return err
		}
	}
	return nil
}

// findSuperuser logs in as the superuser, if there is one, and says what the server is.
func (add *dbAddition) findSuperuser(ctx context.Context) error {
	o := &add.opts
	if o.superuser == "" && add.AskLine != nil {
		text, err := add.askLine(ctx, "Superuser that may set up the server (empty: the SQL is printed)?", "")
		if err != nil {
			return err
		}
		o.superuser = text
	}
	if o.superuser == "" {
		return nil
	}
	cfg, err := add.superuserConfig()
	if err != nil {
		return err
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "28P01" || err != nil && cfg.Password == "" && add.seen.asksPassword {
		if add.AskSecret != nil {
			if cfg.Password, err = add.AskSecret(ctx, "Password of "+printable(o.superuser)+" on the server: "); err != nil {
				return err
			}
			conn, err = pgconn.ConnectConfig(ctx, cfg)
		}
	}
	if err != nil {
		return superuserFault(o.superuser, err)
	}
	add.super = &superuser{conn}
	add.tell("the server is PostgreSQL %s", conn.ParameterStatus("server_version"))
	return nil
}

func superuserFault(name string, err error) error {
	f := fault.Newf(fault.Unavailable, "the superuser %s cannot log in", name).WithCause(err)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		f = f.WithDetail(pg.Message)
	}
	return f.WithHint("set PGPASSWORD, or write its password into ~/.pgpass; or leave --superuser out and run the SQL that is printed yourself")
}

// superuserConfig verifies the server as the agent will. Passwords may come from
// PGPASSWORD and ~/.pgpass, as people have them for psql; nothing else does.
func (add *dbAddition) superuserConfig() (*pgconn.Config, error) {
	host := add.endpoint.Hosts[0]
	cfg, err := pgconn.ParseConfig(connectionString([]client.Setting{
		{Key: "host", Value: host.Host},
		{Key: "port", Value: fmt.Sprint(host.Port)},
		{Key: "user", Value: add.opts.superuser},
		{Key: "dbname", Value: add.opts.superuserDatabase},
		{Key: "sslmode", Value: "disable"},
		{Key: "target_session_attrs", Value: "any"},
		{Key: "connect_timeout", Value: "15"},
		{Key: "application_name", Value: "postern ctl db add"},
	}))
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "the settings for the superuser cannot be used: %w", err)
	}
	cfg.Fallbacks = nil
	if host.Network() != "unix" && len(add.seen.chain) > 0 && (add.db.Spec.TLS != resource.TLSSpec{}) {
		if cfg.TLSConfig, err = add.superuserTLS(host.Host); err != nil {
			return nil, err
		}
	} else if host.Network() != "unix" && !add.opts.noTLS {
		cfg.AfterNetConnect = onlyLoopback
	}
	return cfg, nil
}

// superuserTLS accepts the very certificate that was looked at and found right.
func (add *dbAddition) superuserTLS(host string) (*tls.Config, error) {
	if add.db.Type() != resource.TypeSelfHosted {
		return nil, fault.Newf(fault.Invalid, "--superuser is for self-hosted servers; this one is of type %s", add.db.Type()).
			WithHint("leave it out and run the SQL that is printed with psql")
	}
	seen := add.seen.chain[0]
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host,
		InsecureSkipVerify: true, // chooseTrust has verified it; here it must be the same one
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !s.PeerCertificates[0].Equal(seen) {
				return errors.New("the server shows another certificate than a moment ago")
			}
			return nil
		},
	}, nil
}

// onlyLoopback refuses a connection without TLS that leaves this machine.
func onlyLoopback(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() {
		return nil, errors.New("a connection without TLS must not leave this machine")
	}
	return conn, nil
}
