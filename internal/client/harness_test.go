package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// user is somebody at the gateway that all tests share, with a name of the test's own.
type user struct {
	*testenv.Env
	name string
	road *road // what leads to the gateway
}

// newUser hires a user who may reach every database, with two roles.
func newUser(t *testing.T) *user {
	t.Helper()
	env := testenv.Shared(t)
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	roles := []string{name + "-writer", name + "-reader"}
	for _, role := range roles {
		env.Apply(t, testenv.Role(role, "keep"))
	}
	env.AddUser(t, name, roles, nil)
	return &user{Env: env, name: name, road: newRoad(t, env.Address)}
}

func (u *user) request() client.LoginRequest {
	return client.LoginRequest{Address: u.road.address, User: u.name, Password: testenv.Password, Pin: u.Pin}
}

func (u *user) login(t *testing.T, home *client.Home) *client.Profile {
	t.Helper()
	p, err := home.Login(t.Context(), u.request())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// connected is the hub after a login.
func (u *user) connected(t *testing.T, home *client.Home) *client.Hub {
	t.Helper()
	h, err := home.Connect(u.login(t, home))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// issued is how many certificates for the database the hub has issued to the user.
func (u *user) issued(t *testing.T) int {
	t.Helper()
	return len(u.Audit(t, audit.Filter{User: u.name, Events: []string{"cert.create"}, Database: testenv.Database}))
}

// at is the clock of a machine on which it is that time.
func at(when time.Time) func() time.Time { return func() time.Time { return when } }

// forge puts a certificate of the authority for the route in the place of the one
// in the file, and a key for it.
func (u *user) forge(t *testing.T, file string, authority *ca.Authority, route identity.Route, ends time.Time) {
	t.Helper()
	key, err := client.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := ca.ParseCSR([]byte(key.CSR))
	if err != nil {
		t.Fatal(err)
	}
	id := identity.Identity{User: u.name, Cluster: u.Cluster, Route: route, Expires: ends, LoginExpires: ends}
	if route.IsZero() {
		id.LoginExpires = time.Time{}
	}
	cert, err := authority.IssueUser(id, public, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept bytes.Buffer
	for block, rest := pem.Decode(old); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "POSTERN ROUTE" {
			kept.Write(pem.EncodeToMemory(block))
		}
	}
	kept.Write(key.PEM)
	kept.Write(ca.EncodeCertificates(cert))
	if err := os.WriteFile(file, kept.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// forgeDatabase has a stranger's authority issue the user's certificate for the database.
func (u *user) forgeDatabase(t *testing.T, home *client.Home) {
	t.Helper()
	stored := u.stored(t, home)
	u.forge(t, stored.File, newCA(t, ca.User, u.Cluster), toExample, time.Now().Add(time.Hour).Truncate(time.Second))
}

// takeOver lets somebody else take the gateway's place, after the user got a
// certificate for the database.
func (u *user) takeOver(t *testing.T, home *client.Home, address string) {
	t.Helper()
	u.stored(t, home)
	u.road.lead(address)
}

// stored is the certificate for the database that a proxy will use.
func (u *user) stored(t *testing.T, home *client.Home) *client.DatabaseCertificate {
	t.Helper()
	p, err := home.Current()
	if err != nil {
		t.Fatal(err)
	}
	h, err := home.Connect(p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	cert, err := h.DatabaseCertificate(t.Context(), toExample)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// door is what the agent shows to clients of databases, by that authority.
func (u *user) door(t *testing.T, authority *ca.Authority) *tls.Config {
	t.Helper()
	return hostCertificate(t, authority, "*.db."+u.Cluster)
}

// loginFile is where the certificate of the login is.
func (u *user) loginFile(t *testing.T, home *client.Home) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home.Dir, "keys", "*", u.name+".pem"))
	if err != nil || len(files) != 1 {
		t.Fatalf("login certificates: %v, %v", files, err)
	}
	return files[0]
}

// road carries connections to an address, and from some moment on to another one:
// so looks a network on which somebody has taken the gateway's place.
type road struct {
	address string
	to      atomic.Pointer[string]
}

func newRoad(t *testing.T, to string) *road {
	t.Helper()
	r := &road{}
	r.lead(to)
	r.address = listen(t, func(ctx context.Context, near net.Conn) {
		far, err := (&net.Dialer{}).DialContext(ctx, "tcp", *r.to.Load())
		if err != nil {
			return
		}
		defer far.Close()
		defer context.AfterFunc(ctx, func() { _ = far.Close() })()
		var back sync.WaitGroup
		back.Go(func() { pass(near, far) })
		pass(far, near)
		back.Wait()
	})
	return r
}

// lead leads the connections elsewhere that come from now on.
func (r *road) lead(to string) { r.to.Store(&to) }

// pass carries what comes, and its end or that it was cut.
func pass(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		cut(to)
	}
	_ = to.(*net.TCPConn).CloseWrite() // fails when that side has gone
}

// cut ends a connection without a goodbye.
func cut(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0) // fails when it has ended, and so does the next
	_ = conn.Close()
}

// impostor is somebody in the gateway's place with a TLS certificate. It returns
// the address.
func impostor(t *testing.T, cfg *tls.Config, session func(*tls.Conn)) string {
	t.Helper()
	return listen(t, func(ctx context.Context, raw net.Conn) {
		conn := tls.Server(raw, cfg)
		if conn.HandshakeContext(ctx) == nil {
			session(conn)
			_ = conn.Close()
		}
	})
}

// hostCertificate is one of the authority for the names, with a new key and with
// the authority itself in its chain.
func hostCertificate(t *testing.T, authority *ca.Authority, names ...string) *tls.Config {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.IssueHost(names, nil, key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain := [][]byte{cert.Raw, authority.Certificate().Raw}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}
}

func newCA(t *testing.T, kind ca.Kind, cluster string) *ca.Authority {
	t.Helper()
	a, err := ca.New(kind, cluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// listen hands connections to serve, and closes them after it and with the test.
// It returns the address.
func listen(t *testing.T, serve func(context.Context, net.Conn)) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		end()
		serving.Wait()
	})
	return ln.Addr().String()
}
