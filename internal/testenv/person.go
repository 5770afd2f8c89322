package testenv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/identity"
)

// Person is a user at a machine of their own.
type Person struct {
	Name string
	Home *client.Home

	env     *Env
	profile *client.Profile
	hub     *client.Hub
}

// As returns a person with an empty profile directory. The user must exist when
// the person logs in, which the first use does.
func (e *Env) As(t testing.TB, name string) *Person {
	t.Helper()
	return &Person{Name: name, Home: &client.Home{Dir: t.TempDir()}, env: e}
}

// Login logs in with [Password].
func (p *Person) Login(t testing.TB) {
	t.Helper()
	if err := p.TryLogin(t, Password); err != nil {
		t.Fatal(err)
	}
}

// TryLogin is [Person.Login] with any password, for a test that looks at the error.
func (p *Person) TryLogin(t testing.TB, password client.Secret) error {
	t.Helper()
	profile, err := p.Home.Login(t.Context(), client.LoginRequest{Address: p.env.Address, User: p.Name, Password: password, Pin: p.env.Pin})
	if err != nil {
		return err
	}
	hub, err := p.Home.Connect(profile)
	if err != nil {
		return err
	}
	t.Cleanup(hub.Close)
	p.profile, p.hub = profile, hub
	return nil
}

// Hub returns the hub as the person sees it, logged in.
func (p *Person) Hub(t testing.TB) *client.Hub {
	t.Helper()
	if p.hub == nil {
		p.Login(t)
	}
	return p.hub
}

// Certificate returns the person's login certificate with its key.
func (p *Person) Certificate(t testing.TB) tls.Certificate {
	t.Helper()
	p.Hub(t)
	files, err := filepath.Glob(filepath.Join(p.Home.Dir, "keys", "*", p.Name+".pem"))
	if err != nil || len(files) != 1 {
		t.Fatalf("login certificates of %s: %v, %v", p.Name, files, err)
	}
	return readPair(t, files[0])
}

// DatabaseCertificate returns a certificate for the route with its key.
func (p *Person) DatabaseCertificate(t testing.TB, route identity.Route) tls.Certificate {
	t.Helper()
	cert, err := p.Hub(t).DatabaseCertificate(t.Context(), route)
	if err != nil {
		t.Fatal(err)
	}
	return readPair(t, cert.File)
}

func readPair(t testing.TB, path string) tls.Certificate {
	t.Helper()
	pem, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Proxy opens the local proxy for the route and returns how to connect to it. It
// ends with the test.
func (p *Person) Proxy(t testing.TB, route identity.Route) *pgx.ConnConfig {
	t.Helper()
	hub := p.Hub(t)
	ln, err := client.ListenPrivate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := hub.Proxy(route, slog.New(slog.DiscardHandler)).Serve(ctx, ln); err != nil {
			t.Errorf("local proxy: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		serving.Wait()
	})
	port, err := strconv.ParseUint(ln.Port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	cfg := p.connConfig(t, route)
	cfg.Host, cfg.Port = ln.Host, uint16(port)
	return cfg
}

// Direct returns how to connect to the public port with mutual TLS, as programs
// with certificate files do. The caller may change it.
func (p *Person) Direct(t testing.TB, route identity.Route) *pgx.ConnConfig {
	t.Helper()
	return p.DirectWith(t, route, p.DatabaseCertificate(t, route))
}

// DirectWith is [Person.Direct] with a certificate from elsewhere; the zero
// certificate is none.
func (p *Person) DirectWith(t testing.TB, route identity.Route, certificate tls.Certificate) *pgx.ConnConfig {
	t.Helper()
	cfg := p.connConfig(t, route)
	cfg.TLSConfig = p.clientTLS(t, certificate, route.Database)
	host, port, err := net.SplitHostPort(p.env.Address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.Port = host, uint16(number)
	return cfg
}

// connConfig fills in what does not depend on the way: the user and name of the
// route, else the person's own name and the database postgres.
func (p *Person) connConfig(t testing.TB, route identity.Route) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Database, cfg.Password, cfg.Fallbacks = route.DatabaseUser, route.DatabaseName, "", nil
	if cfg.User == "" {
		cfg.User = p.Name
	}
	if cfg.Database == "" {
		cfg.Database = "postgres"
	}
	return cfg
}

// Connect opens a session through a local proxy of its own.
func (p *Person) Connect(t testing.TB, database, dbname string) *pgx.Conn {
	t.Helper()
	return Connect(t, p.Proxy(t, identity.Route{Database: database, DatabaseName: dbname}))
}

// Refused tries to open a session that must be refused, and returns the
// ErrorResponse that the person reads.
func (p *Person) Refused(t testing.TB, database, dbname string) *pgconn.PgError {
	t.Helper()
	return Refused(t, p.Proxy(t, identity.Route{Database: database, DatabaseName: dbname}))
}

// Connect connects; the connection is closed when the test ends.
func Connect(t testing.TB, cfg *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := TryConnect(t, cfg)
	if err != nil {
		t.Fatalf("connect as %s: %v", cfg.User, describe(err))
	}
	return conn
}

// TryConnect is [Connect] for a test that looks at the error.
func TryConnect(t testing.TB, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		t.Cleanup(func() { Close(t, conn) })
	}
	return conn, err
}

// Close closes a connection, if it is still open.
func Close(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = conn.Close(ctx) // the test may have broken it on purpose
}

// Refused connects, which must be refused with an ErrorResponse, and returns it.
func Refused(t testing.TB, cfg *pgx.ConnConfig) *pgconn.PgError {
	t.Helper()
	conn, err := TryConnect(t, cfg)
	if err == nil {
		Close(t, conn)
		t.Fatalf("connected as %s, which must be refused", cfg.User)
	}
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("got no ErrorResponse but: %v", err)
	}
	return refusal
}

// describe adds detail and hint of an ErrorResponse to its text.
func describe(err error) string {
	text := err.Error()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		text += "\ndetail: " + pg.Detail + "\nhint: " + pg.Hint
	}
	return text
}

// API returns a caller of the hub's API over the public port that shows the
// certificate; without one it calls as nobody.
func (e *Env) API(t testing.TB, certificates ...tls.Certificate) *api.Client {
	t.Helper()
	authority, err := api.ExportAuthority().Call(t.Context(), e.Admin(), api.ExportAuthorityRequest{Type: "host"})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority.Certificates))
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: roots, ServerName: api.HubServerName, Certificates: certificates, MinVersion: tls.VersionTLS12,
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &api.Client{Base: "https://" + e.Address, HTTP: &http.Client{Transport: transport}}
}

// Get asks the public port for a page, as nobody, and returns the HTTP status.
func (e *Env) Get(t testing.TB, path string) int {
	t.Helper()
	client := e.API(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, client.Base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// clientTLS returns a configuration that verifies the gateway as the door to a
// database and shows it the certificate.
func (p *Person) clientTLS(t testing.TB, certificate tls.Certificate, database string) *tls.Config {
	t.Helper()
	p.Hub(t)
	pem, err := os.ReadFile(p.Home.HostCAFile(p.profile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	cfg := &tls.Config{RootCAs: roots, ServerName: api.DatabaseServerName(database, p.env.Cluster), MinVersion: tls.VersionTLS12}
	if certificate.Certificate != nil {
		cfg.Certificates = []tls.Certificate{certificate}
	}
	return cfg
}
