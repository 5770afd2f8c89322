package cli_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

const (
	testCluster  = "main"
	testPassword = "correct horse"
)

// fakeHub is a hub at the other end of the network: it answers the API on a TLS
// port and on a socket, from what it is told beforehand, and hands database
// connections to a function.
type fakeHub struct {
	address string
	host    *ca.Authority
	user    *ca.Authority

	databases []api.Database
	events    string // of the audit log
	session   func(*tls.Conn)

	mu        sync.Mutex // guards what follows
	resources []api.Resource
	revision  int64
}

// startFakeHub starts a hub with its socket in dataDir. Database connections go
// to session.
func startFakeHub(t testing.TB, dataDir string, session func(*tls.Conn)) *fakeHub {
	t.Helper()
	h := &fakeHub{host: newCA(t, ca.Host), user: newCA(t, ca.User), databases: testDatabases, events: testEvents, session: session}
	public, database := h.certificate(t, api.HubServerName), h.certificate(t, "*.db."+testCluster)
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = ln.Addr().String()
	control, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", filepath.Join(dataDir, "ctl.sock"))
	if err != nil {
		t.Fatal(err)
	}
	web := &webListener{conns: make(chan net.Conn), done: make(chan struct{}), addr: ln.Addr()}
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: time.Minute}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{public},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if strings.Contains(hello.ServerName, ".db.") {
				return &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{database}, NextProtos: []string{api.ALPNDatabase}}, nil
			}
			return nil, nil
		},
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(web) })
	wg.Go(func() { _ = server.Serve(control) })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.accept(conn, config, web) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		_ = server.Close()
		wg.Wait()
	})
	return h
}

func newCA(t testing.TB, kind ca.Kind) *ca.Authority {
	t.Helper()
	a, err := ca.New(kind, testCluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *fakeHub) certificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := h.host.IssueHost([]string{name}, nil, key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw, h.host.Certificate().Raw}, PrivateKey: key}
}

func (h *fakeHub) accept(raw net.Conn, config *tls.Config, web *webListener) {
	first := bufio.NewReader(raw)
	if head, err := first.Peek(1); err == nil && head[0] == 0 { // libpq asks for TLS first
		_, _ = first.Discard(8)
		_, _ = raw.Write([]byte{'S'})
	}
	conn := tls.Server(&peeked{raw, first}, config)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		_ = conn.Close()
		return
	}
	if strings.Contains(conn.ConnectionState().ServerName, ".db.") {
		defer conn.Close()
		if _, err := h.verify(conn.ConnectionState()); err == nil {
			h.session(conn)
		}
		return
	}
	select {
	case web.conns <- conn:
	case <-web.done:
		_ = conn.Close()
	}
}

// peeked is a connection of which a reader has read ahead.
type peeked struct {
	net.Conn
	ahead *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.ahead.Read(b) }

func (h *fakeHub) verify(state tls.ConnectionState) (identity.Identity, error) {
	return ca.VerifyUser(state.PeerCertificates, ca.UserRoots{}.With(testCluster, h.user.Certificate()), time.Now())
}

func (h *fakeHub) sign(csr string, id identity.Identity, ttl time.Duration) (string, time.Time, error) {
	public, err := ca.ParseCSR([]byte(csr))
	if err != nil {
		return "", time.Time{}, err
	}
	cert, err := h.user.IssueUser(id, public, ttl)
	if err != nil {
		return "", time.Time{}, err
	}
	return string(ca.EncodeCertificates(cert)), cert.NotAfter, nil
}

func (h *fakeHub) routes() http.Handler {
	mux := http.NewServeMux()
	handle(mux, api.Ping(), func(*http.Request, api.Empty) (api.PingResponse, error) {
		return api.PingResponse{Cluster: testCluster}, nil
	})
	handle(mux, api.Login(), func(_ *http.Request, in api.LoginRequest) (api.LoginResponse, error) {
		if in.Password != testPassword && in.Invitation != "an-invitation" {
			return api.LoginResponse{}, fault.New(fault.Unauthenticated, "wrong user name or password")
		}
		ttl := 12 * time.Hour
		if in.TTLSeconds > 0 {
			ttl = time.Duration(in.TTLSeconds) * time.Second
		}
		roles := []string{"auto-db-users"}
		cert, expires, err := h.sign(in.CSR, identity.Identity{User: in.User, Cluster: testCluster, Roles: roles}, ttl)
		return api.LoginResponse{User: in.User, Cluster: testCluster, Roles: roles, Certificate: cert, HostCAs: string(ca.EncodeCertificates(h.host.Certificate())), Expires: expires}, err
	})
	handle(mux, api.ListDatabases(), func(r *http.Request, in api.ListDatabasesRequest) (api.ListDatabasesResponse, error) {
		var out api.ListDatabasesResponse
		if _, err := h.verify(*r.TLS); err != nil {
			return out, err
		}
		for _, d := range h.databases {
			if (in.Name == "" || in.Name == d.Name) && (in.Labels["env"] == "" || in.Labels["env"] == d.Labels["env"]) {
				out.Databases = append(out.Databases, d)
			}
		}
		return out, nil
	})
	handle(mux, api.IssueDatabaseCertificate(), func(r *http.Request, in api.DatabaseCertificateRequest) (api.DatabaseCertificateResponse, error) {
		id, err := h.verify(*r.TLS)
		if err != nil {
			return api.DatabaseCertificateResponse{}, err
		}
		id.Route = in.Route
		user := in.Route.DatabaseUser
		if user == "" {
			user = id.User
		}
		cert, expires, err := h.sign(in.CSR, id, time.Hour)
		return api.DatabaseCertificateResponse{Certificate: cert, Expires: expires, ServerName: api.DatabaseServerName(in.Route.Database, testCluster), DatabaseUser: user}, err
	})
	h.controlRoutes(mux)
	return mux
}

// handle answers one row of the API.
func handle[In, Out any](mux *http.ServeMux, e api.Endpoint[In, Out], answer func(*http.Request, In) (Out, error)) {
	mux.HandleFunc("POST "+e.Path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		err := json.NewDecoder(r.Body).Decode(&in)
		if err == nil && e.Caller == api.HubOwner && r.TLS != nil {
			err = errors.New("not for the public port")
		}
		var out Out
		if err == nil {
			out, err = answer(r, in)
		}
		if err != nil {
			problem := api.ErrorOf(err)
			w.WriteHeader(problem.Status)
			_ = json.NewEncoder(w).Encode(problem)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
}

// webListener hands accepted connections to an HTTP server.
type webListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (l *webListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *webListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *webListener) Addr() net.Addr { return l.addr }
