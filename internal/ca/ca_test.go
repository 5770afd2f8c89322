package ca_test

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func authority(t testing.TB, kind ca.Kind) *ca.Authority {
	t.Helper()
	a, err := ca.New(kind, "example.com", clock)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func publicKey(t testing.TB) crypto.PublicKey {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

func alice() identity.Identity {
	return identity.Identity{User: "alice", Cluster: "example.com", Roles: []string{"reader"}}
}

func TestAuthorityProfile(t *testing.T) {
	t.Parallel()
	usage := map[ca.Kind][]x509.ExtKeyUsage{
		ca.User:           {x509.ExtKeyUsageClientAuth},
		ca.Host:           {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ca.Database:       {x509.ExtKeyUsageServerAuth},
		ca.DatabaseClient: {x509.ExtKeyUsageClientAuth},
	}
	for _, kind := range ca.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			a := authority(t, kind)
			c := a.Certificate()
			if !c.IsCA || !c.BasicConstraintsValid || c.MaxPathLen != 0 || !c.MaxPathLenZero {
				t.Error("it is not an authority for leaves only")
			}
			if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
				t.Errorf("key usage %v", c.KeyUsage)
			}
			if diff := cmp.Diff(usage[kind], c.ExtKeyUsage); diff != "" {
				t.Errorf("extended key usage (-want +got)\n%s", diff)
			}
			if c.SignatureAlgorithm != x509.ECDSAWithSHA256 || len(c.SubjectKeyId) == 0 {
				t.Errorf("signature %v, subject key id %x", c.SignatureAlgorithm, c.SubjectKeyId)
			}
			if got := c.NotBefore; !got.Equal(noon.Add(-time.Minute)) {
				t.Errorf("starts %v", got)
			}
			if b := c.SerialNumber.BitLen(); b < 64 || b > 128 {
				t.Errorf("serial number of %d bits", b)
			}
			if !strings.HasPrefix(a.Pin(), "sha256:") || len(a.Pin()) != len("sha256:")+64 || a.Pin() != ca.Pin(c) {
				t.Errorf("pin %q", a.Pin())
			}
			if a.Kind() != kind || a.Cluster() != "example.com" {
				t.Errorf("kind %s, cluster %s", a.Kind(), a.Cluster())
			}
		})
	}
	if _, err := ca.New("ssh", "example.com", clock); fault.KindOf(err) != fault.Invalid {
		t.Errorf("unknown kind: %v", err)
	}
	if _, err := ca.New(ca.User, "", clock); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no cluster: %v", err)
	}
}

func TestMarshalAndLoad(t *testing.T) {
	t.Parallel()
	a := authority(t, ca.User)
	data, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Load(data, clock)
	if err != nil {
		t.Fatal(err)
	}
	if b.Kind() != ca.User || b.Cluster() != "example.com" || b.Pin() != a.Pin() {
		t.Errorf("loaded %v, want %v", b, a)
	}
	cert, err := b.IssueUser(alice(), publicKey(t), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	roots := ca.UserRoots{}.With("example.com", a.Certificate())
	if _, err := ca.VerifyUser([]*x509.Certificate{cert}, roots, noon); err != nil {
		t.Errorf("what the loaded authority issued is not trusted: %v", err)
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	t.Parallel()
	read := func(kind ca.Kind) map[string]any {
		data, err := authority(t, kind).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	leaf, err := authority(t, ca.Host).IssueHost([]string{"hub"}, nil, publicKey(t), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other := read(ca.User)
	for name, change := range map[string]func(map[string]any){
		"version":       func(m map[string]any) { m["version"] = 2 },
		"kind":          func(m map[string]any) { m["kind"] = "ssh" },
		"cluster":       func(m map[string]any) { m["cluster"] = "" },
		"other key":     func(m map[string]any) { m["key"] = other["key"] },
		"no key":        func(m map[string]any) { m["key"] = "" },
		"cert as key":   func(m map[string]any) { m["key"] = m["certificate"] },
		"no cert":       func(m map[string]any) { m["certificate"] = "" },
		"two certs":     func(m map[string]any) { m["certificate"] = fmt.Sprint(m["certificate"], other["certificate"]) },
		"text":          func(m map[string]any) { m["certificate"] = fmt.Sprint("x", m["certificate"]) },
		"leaf":          func(m map[string]any) { m["certificate"] = string(ca.EncodeCertificates(leaf)) },
		"unknown field": func(m map[string]any) { m["x"] = 1 },
	} {
		m := read(ca.User)
		change(m)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Load(data, clock); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		} else if strings.Contains(fault.Chain(err), "PRIVATE") {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	if _, err := ca.Load([]byte("nonsense"), clock); fault.KindOf(err) != fault.Invalid {
		t.Errorf("nonsense: %v", err)
	}
}

func TestKeyIsNeverPrinted(t *testing.T) {
	t.Parallel()
	a := authority(t, ca.User)
	for _, text := range []string{fmt.Sprint(a), fmt.Sprintf("%v %+v %#v %s", a, a, a, a), a.LogValue().String()} {
		if !strings.Contains(text, a.Pin()) || strings.Contains(text, "PrivateKey") || strings.Contains(text, "D:") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestLeafProfiles(t *testing.T) {
	t.Parallel()
	pub := publicKey(t)
	user, host, db, client := authority(t, ca.User), authority(t, ca.Host), authority(t, ca.Database), authority(t, ca.DatabaseClient)
	cases := map[string]struct {
		parent *ca.Authority
		issue  func() (*x509.Certificate, error)
		cn     string
		usage  []x509.ExtKeyUsage
		names  []string
		ips    []string
	}{
		"user": {user, func() (*x509.Certificate, error) { return user.IssueUser(alice(), pub, time.Hour) }, "alice", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil, nil},
		"host": {host, func() (*x509.Certificate, error) {
			return host.IssueHost([]string{"hub.example.com", "*.db.example.com"}, []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}, pub, time.Hour)
		}, "hub.example.com", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, []string{"hub.example.com", "*.db.example.com"}, []string{"10.0.0.1"}},
		"db, address first": {db, func() (*x509.Certificate, error) {
			return db.IssueDatabaseServer([]string{"10.0.0.1", "pg.example.com", "::1"}, pub, time.Hour)
		}, "10.0.0.1", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"pg.example.com"}, []string{"10.0.0.1", "::1"}},
		"db, long name": {db, func() (*x509.Certificate, error) {
			return db.IssueDatabaseServer([]string{strings.Repeat("a.", 40) + "example"}, pub, time.Hour)
		}, "", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{strings.Repeat("a.", 40) + "example"}, nil},
		"db_client": {client, func() (*x509.Certificate, error) { return client.IssueDatabaseClient("alice", pub, time.Hour) }, "alice", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, err := c.issue()
			if err != nil {
				t.Fatal(err)
			}
			var ips []string
			for _, ip := range cert.IPAddresses {
				ips = append(ips, ip.String())
			}
			got := []any{cert.Subject.CommonName, cert.ExtKeyUsage, cert.DNSNames, ips, cert.KeyUsage, cert.IsCA}
			want := []any{c.cn, c.usage, c.names, c.ips, x509.KeyUsageDigitalSignature, false}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !cert.NotBefore.Equal(noon.Add(-time.Minute)) || !cert.NotAfter.Equal(noon.Add(time.Hour)) {
				t.Errorf("valid from %v to %v", cert.NotBefore, cert.NotAfter)
			}
			if err := cert.CheckSignatureFrom(c.parent.Certificate()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLeafEndsInTime(t *testing.T) {
	t.Parallel()
	now := noon
	a, err := ca.New(ca.User, "example.com", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	pub := publicKey(t)
	end := func(id identity.Identity, ttl time.Duration) time.Time {
		t.Helper()
		cert, err := a.IssueUser(id, pub, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return cert.NotAfter
	}
	if got := end(alice(), 100*365*24*time.Hour); !got.Equal(a.Certificate().NotAfter) {
		t.Errorf("a leaf ends at %v, its authority at %v", got, a.Certificate().NotAfter)
	}
	id := alice()
	id.LoginExpires = noon.Add(10 * time.Minute)
	if got := end(id, time.Hour); !got.Equal(id.LoginExpires) {
		t.Errorf("the certificate ends at %v, the login at %v", got, id.LoginExpires)
	}
	now = noon.Add(10 * time.Minute)
	if _, err := a.IssueUser(id, pub, time.Hour); fault.KindOf(err) != fault.Invalid {
		t.Errorf("after the login: %v", err)
	}
	now = a.Certificate().NotAfter
	if _, err := a.IssueUser(alice(), pub, time.Hour); fault.KindOf(err) != fault.Invalid {
		t.Errorf("after the authority: %v", err)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	pub := publicKey(t)
	user, host, db, client := authority(t, ca.User), authority(t, ca.Host), authority(t, ca.Database), authority(t, ca.DatabaseClient)
	stranger := alice()
	stranger.Cluster = "elsewhere"
	hosts := func(h ...string) func() (*x509.Certificate, error) {
		return func() (*x509.Certificate, error) { return db.IssueDatabaseServer(h, pub, time.Hour) }
	}
	dbUser := func(name string) func() (*x509.Certificate, error) {
		return func() (*x509.Certificate, error) { return client.IssueDatabaseClient(name, pub, time.Hour) }
	}
	for name, issue := range map[string]func() (*x509.Certificate, error){
		"other cluster": func() (*x509.Certificate, error) { return user.IssueUser(stranger, pub, time.Hour) },
		"nobody": func() (*x509.Certificate, error) {
			return user.IssueUser(identity.Identity{Cluster: "example.com"}, pub, time.Hour)
		},
		"no time":          func() (*x509.Certificate, error) { return user.IssueUser(alice(), pub, 0) },
		"negative time":    func() (*x509.Certificate, error) { return user.IssueUser(alice(), pub, -time.Hour) },
		"no key":           func() (*x509.Certificate, error) { return user.IssueUser(alice(), nil, time.Hour) },
		"user from host":   func() (*x509.Certificate, error) { return host.IssueUser(alice(), pub, time.Hour) },
		"host from user":   func() (*x509.Certificate, error) { return user.IssueHost([]string{"hub"}, nil, pub, time.Hour) },
		"client from db":   func() (*x509.Certificate, error) { return db.IssueDatabaseClient("alice", pub, time.Hour) },
		"server of client": func() (*x509.Certificate, error) { return client.IssueDatabaseServer([]string{"pg"}, pub, time.Hour) },
		"nameless host":    func() (*x509.Certificate, error) { return host.IssueHost(nil, nil, pub, time.Hour) },
		"no address":       func() (*x509.Certificate, error) { return host.IssueHost(nil, []netip.Addr{{}}, pub, time.Hour) },
		"no hosts":         hosts(),
		"empty host":       hosts(""),
		"nul":              hosts("pg\x00.example.com"),
		"newline":          hosts("pg\n"),
		"comma":            hosts("a,b"),
		"port":             hosts("pg:5432"),
		"url":              hosts("http://pg"),
		"zone":             hosts("fe80::1%eth0"),
		"mistyped address": hosts("10.0.0.256"),
		"umlaut":           hosts("bücher.example"),
		"wildcard inside":  hosts("pg.*.example"),
		"only a star":      hosts("*"),
		"end dot":          hosts("pg."),
		"long label":       hosts(strings.Repeat("a", 64)),
		"long name":        hosts(strings.Repeat("a.", 127) + "b"),
		"hyphen":           hosts("-pg"),
		"empty db user":    dbUser(""),
		"long db user":     dbUser(strings.Repeat("a", 64)),
		"nul db user":      dbUser("a\x00b"),
		"not UTF-8":        dbUser("a\xff"),
	} {
		cert, err := issue()
		if fault.KindOf(err) != fault.Invalid || err == nil || cert != nil {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}
