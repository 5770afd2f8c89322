package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/pglocal"
	"github.com/postern-db/postern/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// PostgreSQL compares the common name with the database user byte by byte. The
// distribution's server is built with OpenSSL 3, the newest one that tests use
// with OpenSSL 1.1.1.
func TestPostgreSQLTakesOurCertificates(t *testing.T) {
	t.Parallel()
	for _, version := range []int{0, pgtest.Newest(t)} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			servers, clients := authorityNow(t, ca.Database), authorityNow(t, ca.DatabaseClient)
			server := pgtest.Start(t, pgtest.Options{
				Version: version, TLS: serverTLS(t, servers, clients), HBA: "hostssl all all 127.0.0.1/32 cert\n",
			})
			trusted := x509.NewCertPool()
			trusted.AddCert(servers.Certificate())
			login := func(certificateOf, user string, issuer *ca.Authority) (string, error) {
				pair := keyPair(t, issuer, func(a *ca.Authority, key *tls.Certificate) (*x509.Certificate, error) {
					return a.IssueDatabaseClient(certificateOf, key.Leaf.PublicKey, time.Hour)
				})
				cfg, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres user=x sslmode=require", server.Port))
				if err != nil {
					t.Fatal(err)
				}
				cfg.User = user
				cfg.TLSConfig = &tls.Config{RootCAs: trusted, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
				conn, err := pgx.ConnectConfig(t.Context(), cfg)
				if err != nil {
					return "", err
				}
				defer func() { _ = conn.Close(t.Context()) }()
				var who string
				err = conn.QueryRow(t.Context(), `SELECT current_user::text`).Scan(&who)
				return who, err
			}
			for _, user := range []string{
				"alice", "alice@example.com", strings.Repeat("a", 63), "jürgen", "🐘", "alice#1f2e", "a/CN=bob", "a, CN = bob", "a\nb", `a"b'c\`, " a ", "*",
			} {
				server.Exec(t, "CREATE ROLE "+pgx.Identifier{user}.Sanitize()+" LOGIN")
				if who, err := login(user, user, clients); err != nil || who != user {
					t.Errorf("%q logs in as %q, %v", user, who, err)
				}
			}
			if _, err := login("alice", "jürgen", clients); err == nil {
				t.Error("alice logs in as somebody else")
			}
			if _, err := login("alice", "alice", authorityNow(t, ca.DatabaseClient)); err == nil {
				t.Error("a certificate of a stranger is accepted")
			}
		})
	}
}

func serverTLS(t *testing.T, servers, clients *ca.Authority) *pglocal.TLS {
	t.Helper()
	pair := keyPair(t, servers, func(a *ca.Authority, key *tls.Certificate) (*x509.Certificate, error) {
		return a.IssueDatabaseServer([]string{"localhost", "127.0.0.1"}, key.Leaf.PublicKey, time.Hour)
	})
	key, err := ca.EncodeKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &pglocal.TLS{
		Certificate: ca.EncodeCertificates(pair.Leaf, servers.Certificate()), Key: key,
		ClientCAs: ca.EncodeCertificates(clients.Certificate()),
	}
}
