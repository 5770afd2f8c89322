package client_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

// fakeHub is the other side of the network: a public port that answers the API
// from a script and hands database connections to a function.
type fakeHub struct {
	address string
	host    *ca.Authority
	trusted *ca.Authority // whose users may connect
	session func(*tls.Conn)

	user   atomic.Pointer[ca.Authority]    // signs users
	public atomic.Pointer[tls.Certificate] // shown to callers of the API
	refuse atomic.Pointer[fault.Error]     // why no database certificate is issued
	issued atomic.Int32                    // database certificates
}

const (
	testCluster  = "main"
	testPassword = "opensesame"
	loginTTL     = time.Hour
	databaseTTL  = 10 * time.Minute
)

// startFakeHub opens the port. Database connections go to session.
func startFakeHub(t *testing.T, session func(*tls.Conn)) *fakeHub {
	t.Helper()
	h := &fakeHub{host: newCA(t, ca.Host), trusted: newCA(t, ca.User), session: session}
	h.user.Store(h.trusted)
	h.useName(t, api.HubServerName)
	database := h.certificate(t, "example.db.main")
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = inner.Addr().String()
	ln := tls.NewListener(inner, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName == "example.db.main" {
				return &tls.Config{
					MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{database}, NextProtos: []string{api.ALPNDatabase},
					ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(s tls.ConnectionState) error { _, err := h.verify(s); return err },
				}, nil
			}
			return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*h.public.Load()}, ClientAuth: tls.RequestClientCert}, nil
		},
	})
	web := &webListener{conns: make(chan net.Conn), done: make(chan struct{}), addr: inner.Addr()}
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(web) })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.accept(conn.(*tls.Conn), web) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		_ = server.Close()
		wg.Wait()
	})
	return h
}

// useName makes the hub show a certificate with that name.
func (h *fakeHub) useName(t *testing.T, name string) {
	t.Helper()
	cert := h.certificate(t, name)
	h.public.Store(&cert)
}

func newCA(t *testing.T, kind ca.Kind) *ca.Authority {
	t.Helper()
	a, err := ca.New(kind, testCluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// certificate is one of the host CA, together with that CA.
func (h *fakeHub) certificate(t *testing.T, name string) tls.Certificate {
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

func (h *fakeHub) verify(state tls.ConnectionState) (identity.Identity, error) {
	return ca.VerifyUser(state.PeerCertificates, ca.UserRoots{}.With(testCluster, h.trusted.Certificate()), time.Now())
}

func (h *fakeHub) accept(conn *tls.Conn, web *webListener) {
	if err := conn.HandshakeContext(context.Background()); err != nil {
		_ = conn.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == api.ALPNDatabase {
		defer conn.Close()
		h.session(conn)
		return
	}
	select {
	case web.conns <- conn:
	case <-web.done:
		_ = conn.Close()
	}
}

func (h *fakeHub) routes() http.Handler {
	mux := http.NewServeMux()
	handle(mux, api.Login(), func(_ *http.Request, in api.LoginRequest) (api.LoginResponse, error) {
		if in.Password != testPassword {
			return api.LoginResponse{}, fault.New(fault.Unauthenticated, "wrong user name or password")
		}
		roles := []string{"writer", "reader"}
		cert, expires, err := h.sign(in.CSR, identity.Identity{User: in.User, Cluster: testCluster, Roles: roles}, loginTTL)
		return api.LoginResponse{
			User: in.User, Cluster: testCluster, Roles: roles, Certificate: cert,
			HostCAs: string(ca.EncodeCertificates(h.host.Certificate())), Expires: expires,
		}, err
	})
	handle(mux, api.IssueDatabaseCertificate(), func(r *http.Request, in api.DatabaseCertificateRequest) (api.DatabaseCertificateResponse, error) {
		if f := h.refuse.Load(); f != nil {
			return api.DatabaseCertificateResponse{}, f
		}
		id, err := h.verify(*r.TLS)
		if err != nil {
			return api.DatabaseCertificateResponse{}, err
		}
		h.issued.Add(1)
		id.Route = in.Route
		cert, expires, err := h.sign(in.CSR, id, databaseTTL)
		return api.DatabaseCertificateResponse{Certificate: cert, Expires: expires, ServerName: "example.db.main", DatabaseUser: id.User}, err
	})
	return mux
}

func (h *fakeHub) sign(csr string, id identity.Identity, ttl time.Duration) (string, time.Time, error) {
	public, err := ca.ParseCSR([]byte(csr))
	if err != nil {
		return "", time.Time{}, err
	}
	cert, err := h.user.Load().IssueUser(id, public, ttl)
	if err != nil {
		return "", time.Time{}, err
	}
	return string(ca.EncodeCertificates(cert)), cert.NotAfter, nil
}

// handle answers one row of the API.
func handle[In, Out any](mux *http.ServeMux, e api.Endpoint[In, Out], answer func(*http.Request, In) (Out, error)) {
	mux.HandleFunc("POST "+e.Path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := answer(r, in)
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
