package daemon_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/daemon"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestProcessEndsCleanlyOnSIGTERM: exit code 0, also with a session open.
func TestProcessEndsCleanlyOnSIGTERM(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Process: true})
	conn := env.Hire(t, "alice", "keep", "reader").Connect(t, "example", "postgres")
	env.Stop(t)
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session outlived the gateway")
	}
	if account := env.Account(t, "alice"); account.Login || len(account.Roles) != 1 {
		t.Errorf("the account is %+v", account)
	}
	env.Restart(t)
}

// TestParts: the status names what runs, and a hub without an agent serves no
// database.
func TestParts(t *testing.T) {
	t.Parallel()
	for service, want := range map[string]string{"db_service: {enabled: \"no\"}": "hub", "": "hub agent"} {
		env := testenv.Start(t, testenv.Options{NoServer: true, Service: service})
		status, err := api.Status().Call(t.Context(), env.Admin(), api.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(status.Parts, " "); got != want {
			t.Errorf("with %q these parts run: %s, want %s", service, got, want)
		}
		if status.Address != env.Address || status.CAPin != env.Pin || status.Cluster != env.Cluster {
			t.Errorf("the status %+v differs from what was announced: %s %s", status, env.Address, env.Pin)
		}
	}
}

// TestReadyLineOnly is written to Out: scripts read it.
func TestReadyLineOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	if len(filepath.Join(dir, "ctl.sock")) > 100 {
		t.Skip("the temporary directory has too long a path for a socket")
	}
	cfg, err := config.Parse("x", []byte("data_dir: "+dir+"\nhub: {cluster_name: lines.test, listen_addr: '127.0.0.1:0'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := writer(func(p []byte) { cancel(); t.Logf("%s", p) })
	var text strings.Builder
	if err := daemon.Run(ctx, cfg, daemon.Options{Version: "test", Out: tee{&text, out}, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if got := text.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "postern is ready: address=127.0.0.1:") ||
		!strings.Contains(got, " cluster=lines.test ca_pin=sha256:") {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "ctl.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("x", []byte("data_dir: "+filepath.Join(t.TempDir(), strings.Repeat("d", 100))+"\nhub: {listen_addr: '127.0.0.1:0'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = daemon.Run(t.Context(), cfg, daemon.Options{Version: "test", Out: &strings.Builder{}, Log: slog.New(slog.DiscardHandler)})
	if f := fault.Of(err); f.Kind != fault.Invalid || !strings.Contains(f.Hint, "shorter path") {
		t.Errorf("got %v", err)
	}
}

// TestOwnCertificateOnThePublicPort: browsers see it, our own clients see what
// they pin, and a new one is shown without a restart.
func TestOwnCertificateOnThePublicPort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "hub.crt"), filepath.Join(dir, "hub.key")
	authority, err := ca.New(ca.Host, "web.test", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	install := func(at time.Time) *x509.Certificate {
		t.Helper()
		key, err := ca.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := authority.IssueHost([]string{"hub.example.com"}, nil, key.Public(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for path, data := range map[string][]byte{certFile: ca.EncodeCertificates(cert), keyFile: encodeKey(t, key)} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		return cert
	}
	first := install(time.Now().Add(-time.Minute))
	env := testenv.Start(t, testenv.Options{Hub: "tls: {cert_file: " + certFile + ", key_file: " + keyFile + "}\n"})
	if got := shown(t, env, "hub.example.com"); !got.Equal(first) {
		t.Errorf("browsers see %s", got.Subject)
	}
	if got := shown(t, env, api.HubServerName); got.Equal(first) {
		t.Error("our own clients see the configured certificate")
	}
	second := install(time.Now())
	if got := shown(t, env, "hub.example.com"); !got.Equal(second) {
		t.Error("the new certificate is not shown")
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, env, "hub.example.com"); !got.Equal(second) {
		t.Error("the certificate in use is not shown while its files are replaced")
	}
	env.Hire(t, "alice", "keep", "reader").Connect(t, "example", "postgres")
	if got := shown(t, env, api.DatabaseServerName("example", env.Cluster)); got.Equal(second) {
		t.Error("databases show the configured certificate")
	}
}

func TestMissingCertificateFile(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	env.Stop(t)
	cfg := env.Config(t)
	cfg.Hub.TLS = config.HubTLS{CertFile: "/does/not/exist", KeyFile: "/does/not/exist"}
	err := daemon.Run(t.Context(), cfg, daemon.Options{Version: "test", Out: &strings.Builder{}, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(fault.Chain(err), "/does/not/exist") {
		t.Errorf("got %v", err)
	}
	env.Restart(t)
}

// TestHubWithoutAgentRefusesDatabases instead of letting them wait.
func TestHubWithoutAgentRefusesDatabases(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true, Service: "db_service: {enabled: \"no\"}"})
	env.Apply(t, testenv.Role("readers", "keep"))
	env.AddUser(t, "alice", []string{"readers"}, nil)
	alice := env.As(t, "alice")
	if all, err := alice.Hub(t).Databases(t.Context(), api.ListDatabasesRequest{}); err != nil || len(all) != 0 {
		t.Errorf("listed: %v, %v", all, err)
	}
	if _, err := alice.Hub(t).DatabaseCertificate(t.Context(), identity.Route{Database: "example"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("certificate: %v", err)
	}
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: api.DatabaseServerName("example", env.Cluster)}} //nolint:gosec // nobody answers
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if conn, err := dialer.DialContext(ctx, "tcp", env.Address); err == nil {
		conn.Close()
		t.Error("somebody answered")
	} else if ctx.Err() != nil {
		t.Error("the connection is left to wait")
	}
}

// shown returns the certificate that the public port shows for a name.
func shown(t *testing.T, env *testenv.Env, name string) *x509.Certificate {
	t.Helper()
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: name}} //nolint:gosec // the test looks at what is shown
	conn, err := dialer.DialContext(t.Context(), "tcp", env.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

func encodeKey(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// writer is a function that is told of every write.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// tee writes to both, the first first.
type tee [2]interface{ Write([]byte) (int, error) }

func (t tee) Write(p []byte) (int, error) {
	_, _ = t[0].Write(p)
	return t[1].Write(p)
}
