package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/pgtest"
)

// Around returns how to connect to PostgreSQL around the gateway, over TLS with a
// certificate of authority for the user. The server is told to accept those
// as well.
func (e *Env) Around(t testing.TB, authority *pgtest.Authority, user string) *pgx.ConnConfig {
	t.Helper()
	accepted := slices.Concat(e.founded.server.ClientCAs, authority.PEM())
	e.Server.Exec(t, fmt.Sprintf(`SELECT lo_from_bytea(2, '\x%s')`, hex.EncodeToString(accepted)),
		"SELECT lo_export(2, 'postern-clients.crt')", "SELECT lo_unlink(2)", "SELECT pg_reload_conf()")
	cert, err := authority.Issue(user)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.ServerAuthority())
	cfg := e.Server.Config(t, user, "postgres")
	cfg.Host = e.Server.Host
	cfg.TLSConfig = &tls.Config{RootCAs: roots, ServerName: e.Server.Host, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	Eventually(t, "PostgreSQL accepts the authority's certificates", func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err == nil
	})
	return cfg
}

// ServerAuthority returns the authority that has signed PostgreSQL's certificate, in PEM.
func (e *Env) ServerAuthority() []byte { return e.founded.server.Certificate } // the chain ends with it
