package pgwire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testTimeout ends a test that hangs.
const testTimeout = time.Minute

// testCA signs certificates for tests.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTestCA(tb testing.TB) *testCA {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	ca := &testCA{key: key, pool: x509.NewCertPool()}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	ca.pool.AddCert(ca.cert)
	return ca
}

func (ca *testCA) issue(tb testing.TB, name string) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// testTLS returns configurations of two sides that trust each other.
var testTLS = sync.OnceValues(func() (server, client *tls.Config) {
	tb := &testing.B{}
	ca := newTestCA(tb)
	server = &tls.Config{Certificates: []tls.Certificate{ca.issue(tb, "localhost")}, DynamicRecordSizingDisabled: true}
	return server, &tls.Config{RootCAs: ca.pool, ServerName: "localhost", DynamicRecordSizingDisabled: true}
})

// A transport makes two connected ends.
type transport struct {
	name string
	pair func(testing.TB) (a, b net.Conn)
}

var transports = []transport{{"pipe", pipePair}, {"tcp", tcpPair}, {"unix", unixPair}, {"tls", tlsPair}}

func guard(tb testing.TB, a, b net.Conn) (net.Conn, net.Conn) {
	tb.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func pipePair(tb testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	return guard(tb, a, b)
}

func tcpPair(tb testing.TB) (net.Conn, net.Conn) { return netPair(tb, "tcp", "127.0.0.1:0") }

func unixPair(tb testing.TB) (net.Conn, net.Conn) {
	return netPair(tb, "unix", filepath.Join(tb.TempDir(), "s"))
}

func netPair(tb testing.TB, network, address string) (net.Conn, net.Conn) {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), network, address)
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	a, err := (&net.Dialer{}).DialContext(tb.Context(), network, l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	return guard(tb, newSocket(a), newSocket(b))
}

// tcpBelow returns what conn is made of at the bottom.
func tcpBelow(tb testing.TB, conn net.Conn) *net.TCPConn {
	tb.Helper()
	for {
		switch c := conn.(type) {
		case *net.TCPConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			tb.Fatalf("no TCP below %T", conn)
		}
	}
}

func tlsPair(tb testing.TB) (net.Conn, net.Conn) {
	tb.Helper()
	a, b := tcpPair(tb)
	serverConfig, clientConfig := testTLS()
	client, server := tls.Client(BelowTLS(a), clientConfig), tls.Server(BelowTLS(b), serverConfig)
	done := make(chan error, 1)
	go func() { done <- client.HandshakeContext(context.Background()) }()
	if err := server.HandshakeContext(context.Background()); err != nil {
		tb.Fatal(err)
	}
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	return client, server
}

// msg builds one message.
func msg(typ byte, body string) []byte {
	b, at := begin(nil, typ)
	return finish(append(b, body...), at)
}

// header builds the header of a message that announces a body of size bytes.
func header(typ byte, size int) []byte {
	return binary.BigEndian.AppendUint32([]byte{typ}, uint32(size+4))
}
