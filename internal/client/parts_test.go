package client_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/identity"
)

// TestCertificateFiles: the parts are those of the one file, private, of the login to
// the database where that is for the same route, and they go with it.
func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	home := &client.Home{Dir: t.TempDir()}
	h := newUser(t).connected(t, home)
	shop, other := identity.Route{Database: "example", DatabaseName: "shop"}, identity.Route{Database: "example", DatabaseName: "other"}
	active, err := h.LogInToDatabase(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	checkParts(t, active)
	again, err := h.CertificateFiles(t.Context(), shop)
	if err != nil || again.File != active.File || filepath.Base(again.CertFile()) != "example.crt" {
		t.Errorf("got %+v, %v", again, err)
	}
	single, err := h.CertificateFiles(t.Context(), other)
	if err != nil || single.File == active.File {
		t.Fatalf("got %+v, %v", single, err)
	}
	checkParts(t, single)

	// An expired one goes with the next certificate, a login stays.
	home.Now = at(h.Profile.Expires.Add(time.Second))
	if _, err := h.CertificateFiles(t.Context(), identity.Route{Database: "example", DatabaseName: "third"}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{single.File, single.CertFile(), single.KeyFile(), single.KeyDERFile()} {
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", file, err)
		}
	}
	checkParts(t, active)
	if err := home.LogOutOfDatabase(h.Profile, "example"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(active.File)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func checkParts(t *testing.T, c *client.DatabaseCertificate) {
	t.Helper()
	whole, err := tls.LoadX509KeyPair(c.File, c.File)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := tls.LoadX509KeyPair(c.CertFile(), c.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	if !whole.Leaf.Equal(parts.Leaf) {
		t.Error("the certificates differ")
	}
	der, err := os.ReadFile(c.KeyDERFile())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	if ec, ok := key.(*ecdsa.PrivateKey); !ok || !ec.Equal(parts.PrivateKey) {
		t.Error("the keys differ")
	}
	for _, file := range []string{c.File, c.CertFile(), c.KeyFile(), c.KeyDERFile()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}
