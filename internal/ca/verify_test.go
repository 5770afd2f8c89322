package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

func TestVerifyUser(t *testing.T) {
	t.Parallel()
	pub := publicKey(t)
	ours := authority(t, ca.User)
	want := alice()
	want.Expires = noon.Add(time.Hour)
	cert, err := ours.IssueUser(want, pub, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	// A trusted cluster, and what it could do with the trust.
	leaf, err := ca.New(ca.User, "leaf.example.com", clock)
	if err != nil {
		t.Fatal(err)
	}
	theirs := alice()
	theirs.Cluster = "leaf.example.com"
	guest, err := leaf.IssueUser(theirs, pub, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pretender, err := ca.New(ca.User, "example.com", clock) // says that it is us
	if err != nil {
		t.Fatal(err)
	}
	forged, err := pretender.IssueUser(alice(), pub, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	host, err := authority(t, ca.Host).IssueHost([]string{"hub"}, nil, pub, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dbClient := authority(t, ca.DatabaseClient)
	client, err := dbClient.IssueDatabaseClient("alice", pub, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	alone := ca.UserRoots{}.With("example.com", ours.Certificate())
	both := alone.With("leaf.example.com", leaf.Certificate(), pretender.Certificate())
	cases := map[string]struct {
		certs []*x509.Certificate
		roots ca.UserRoots
		now   time.Time
		want  string // in the error; empty: accepted
	}{
		"good":                     {[]*x509.Certificate{cert}, alone, noon, ""},
		"good, with the authority": {[]*x509.Certificate{cert, ours.Certificate()}, alone, noon, ""},
		"good, several clusters":   {[]*x509.Certificate{cert}, both, noon, ""},
		"a minute behind":          {[]*x509.Certificate{cert}, alone, noon.Add(-time.Minute), ""},
		"last moment":              {[]*x509.Certificate{cert}, alone, noon.Add(time.Hour), ""},
		"no certificate":           {nil, alone, noon, "no client certificate"},
		"expired":                  {[]*x509.Certificate{cert}, alone, noon.Add(time.Hour + time.Second), "expired"},
		"not yet":                  {[]*x509.Certificate{cert}, alone, noon.Add(-2 * time.Minute), "not valid yet"},
		"nobody is trusted":        {[]*x509.Certificate{cert}, ca.UserRoots{}, noon, "not issued by"},
		"stranger":                 {[]*x509.Certificate{guest}, alone, noon, "not issued by"},
		"stranger, with authority": {[]*x509.Certificate{guest, leaf.Certificate()}, alone, noon, "not issued by"},
		"trusted for another":      {[]*x509.Certificate{forged}, both, noon, "for a user of cluster example.com"},
		"an authority":             {[]*x509.Certificate{ours.Certificate()}, alone, noon, "user certificate"},
		"host certificate":         {[]*x509.Certificate{host}, alone, noon, "not issued by"},
		"db_client certificate": {
			[]*x509.Certificate{client}, ca.UserRoots{}.With("example.com", dbClient.Certificate()), noon, "carries no identity",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ca.VerifyUser(c.certs, c.roots, c.now)
			if c.want == "" {
				if err != nil {
					t.Fatal(fault.Chain(err))
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				return
			}
			if err == nil || fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want unauthenticated and %q", err, c.want)
			}
			if diff := cmp.Diff(identity.Identity{}, got); diff != "" {
				t.Errorf("a refusal came with an identity: %s", diff)
			}
		})
	}
	if len(cert.UnhandledCriticalExtensions) != 1 {
		t.Error("verifying changed the certificate")
	}
}

// The documented way to use user certificates in TLS, in both protocol versions
// and for a resumed session.
func TestUserCertificateInTLS(t *testing.T) {
	t.Parallel()
	users, hosts := authorityNow(t, ca.User), authorityNow(t, ca.Host)
	server, client := keyPair(t, hosts, func(a *ca.Authority, key *tls.Certificate) (*x509.Certificate, error) {
		return a.IssueHost([]string{"hub"}, nil, key.Leaf.PublicKey, time.Hour)
	}), keyPair(t, users, func(a *ca.Authority, key *tls.Certificate) (*x509.Certificate, error) {
		return a.IssueUser(alice(), key.Leaf.PublicKey, time.Hour)
	})
	roots := ca.UserRoots{}.With("example.com", users.Certificate())
	trusted := x509.NewCertPool()
	trusted.AddCert(hosts.Certificate())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		serverConfig := &tls.Config{
			Certificates: []tls.Certificate{server}, MinVersion: version, MaxVersion: version,
			ClientAuth: tls.RequireAnyClientCert,
			VerifyConnection: func(cs tls.ConnectionState) error {
				_, err := ca.VerifyUser(cs.PeerCertificates, roots, time.Now())
				return err
			},
		}
		clientConfig := &tls.Config{
			Certificates: []tls.Certificate{client}, RootCAs: trusted, ServerName: "hub", MinVersion: version,
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		for _, resumed := range []bool{false, true} {
			state := handshake(t, serverConfig, clientConfig)
			if state.DidResume != resumed {
				t.Errorf("version %x: resumed %v, want %v", version, state.DidResume, resumed)
			}
			id, err := ca.VerifyUser(state.PeerCertificates, roots, time.Now())
			if err != nil || id.User != "alice" {
				t.Errorf("version %x: got %v, %v", version, id, err)
			}
		}
	}
}

func authorityNow(t *testing.T, kind ca.Kind) *ca.Authority {
	t.Helper()
	a, err := ca.New(kind, "example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keyPair(t *testing.T, a *ca.Authority, issue func(*ca.Authority, *tls.Certificate) (*x509.Certificate, error)) tls.Certificate {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: &x509.Certificate{PublicKey: key.Public()}}
	if pair.Leaf, err = issue(a, &pair); err != nil {
		t.Fatal(err)
	}
	pair.Certificate = [][]byte{pair.Leaf.Raw, a.Certificate().Raw}
	return pair
}

// handshake connects the two sides and returns what the server sees.
func handshake(t *testing.T, server, client *tls.Config) tls.ConnectionState {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	type result struct {
		state tls.ConnectionState
		err   error
	}
	results := make(chan result, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			results <- result{err: err}
			return
		}
		defer func() { _ = raw.Close() }()
		conn := tls.Server(raw, server)
		_, err = conn.Write([]byte("x")) // a ticket of TLS 1.3 is read with the first data
		results <- result{conn.ConnectionState(), err}
	}()
	conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r := <-results
	if r.err != nil {
		t.Fatal(r.err)
	}
	_ = conn.Close()
	return r.state
}

func TestFindPinned(t *testing.T) {
	t.Parallel()
	a, other := authority(t, ca.Host), authority(t, ca.Host)
	leaf, err := a.IssueHost([]string{"hub"}, nil, publicKey(t), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{leaf, other.Certificate(), a.Certificate()}
	got, err := ca.FindPinned(chain, a.Pin())
	if err != nil || !got.Equal(a.Certificate()) {
		t.Errorf("got %v, %v", got, err)
	}
	for name, pin := range map[string]string{"a leaf": ca.Pin(leaf), "nobody": authority(t, ca.Host).Pin(), "empty": ""} {
		if _, err := ca.FindPinned(chain, pin); err == nil || fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("pin of %s: %v", name, err)
		}
	}
}
