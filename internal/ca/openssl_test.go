package ca_test

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/ca"
)

// OpenSSL is what PostgreSQL and libpq verify with.
func TestOpenSSLAcceptsOurCertificates(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed: run make deps")
	}
	pub := publicKey(t)
	dir := t.TempDir()
	verify := func(t *testing.T, name string, a *ca.Authority, cert *x509.Certificate, purpose string) (string, error) {
		t.Helper()
		root, leaf := filepath.Join(dir, name+"-ca.pem"), filepath.Join(dir, name+".pem")
		for path, c := range map[string]*x509.Certificate{root: a.Certificate(), leaf: cert} {
			if err := os.WriteFile(path, ca.EncodeCertificates(c), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, leaf).CombinedOutput()
		return string(out), err
	}
	clients := authorityNow(t, ca.DatabaseClient)
	for name, user := range map[string]string{
		"plain": "alice", "mail": "alice@example.com", "longest": strings.Repeat("a", 63), "umlaut": "jürgen", "elephant": "🐘",
		"hash": "alice#1f2e", "slash": "a/CN=bob", "comma": "a, CN = bob", "newline": "a\nb", "quote": `a"b'c\`, "space": " a ", "tab": "a\tb",
	} {
		t.Run("client "+name, func(t *testing.T) {
			t.Parallel()
			cert, err := clients.IssueDatabaseClient(user, pub, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := verify(t, "client-"+name, clients, cert, "sslclient"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if out, err := verify(t, "client-as-server-"+name, clients, cert, "sslserver"); err == nil {
				t.Errorf("a client certificate is good for a server: %s", out)
			}
			if cert.Subject.CommonName != user {
				t.Errorf("common name %q, want %q", cert.Subject.CommonName, user)
			}
		})
	}
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		servers := authorityNow(t, ca.Database)
		cert, err := servers.IssueDatabaseServer([]string{"pg.example.com", "10.0.0.1"}, pub, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := verify(t, "server", servers, cert, "sslserver"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if out, err := verify(t, "server-as-client", servers, cert, "sslclient"); err == nil {
			t.Errorf("a server certificate is good for a client: %s", out)
		}
	})
	t.Run("user", func(t *testing.T) {
		t.Parallel()
		users := authorityNow(t, ca.User)
		cert, err := users.IssueUser(alice(), pub, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		out, err := verify(t, "user", users, cert, "sslclient")
		if err == nil || !strings.Contains(out, "critical extension") {
			t.Errorf("somebody who does not understand a user certificate accepts it: %v %s", err, out)
		}
	})
}
