package testenv

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/pglocal"
	"github.com/postern-db/postern/internal/pgtest"
)

// adopt gives a running server the certificate of a cluster, and has it accept
// the client certificates of that cluster. The files exist and keep their modes.
func adopt(t testing.TB, server *pgtest.Server, with *pglocal.TLS) {
	t.Helper()
	for name, content := range map[string][]byte{
		"postern-server.crt": with.Certificate, "postern-server.key": with.Key, "postern-clients.crt": with.ClientCAs,
	} {
		server.Exec(t, fmt.Sprintf(`SELECT lo_from_bytea(1, '\x%s')`, hex.EncodeToString(content)),
			fmt.Sprintf(`SELECT lo_export(1, '%s')`, name), `SELECT lo_unlink(1)`)
	}
	server.Exec(t, "SELECT pg_reload_conf()")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(with.Certificate) // ends with the authority's
	Eventually(t, "the server shows its new certificate", func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), tlsConfig(t, server, roots))
		if err == nil {
			_ = conn.Close(t.Context())
		}
		_, old := errors.AsType[x509.UnknownAuthorityError](err)
		return !old
	})
}

// tlsConfig connects over TLS without a certificate, which the server refuses
// after the handshake.
func tlsConfig(t testing.TB, server *pgtest.Server, roots *x509.CertPool) *pgx.ConnConfig {
	t.Helper()
	cfg := server.Config(t, "postgres", "postgres")
	cfg.Host = server.Host
	cfg.TLSConfig = &tls.Config{RootCAs: roots, ServerName: server.Host, MinVersion: tls.VersionTLS12}
	return cfg
}
