package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/pglocal"
)

// Authority is a certificate authority for tests.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority with a fresh key.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name + " " + rand.Text()}, // clients choose by it
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{Certificate: cert, key: key}, nil
}

// Issue makes a certificate for server and client use. hosts are DNS names and
// IP addresses.
func (a *Authority) Issue(commonName string, hosts ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Pool returns a pool that trusts this authority only.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// PEM returns certificate and key of an issued certificate.
func PEM(c tls.Certificate) (cert, key []byte, err error) {
	for _, der := range c.Certificate {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

// certificates are what a server and its clients show each other.
type certificates struct {
	serverCA, clientCA *Authority
	cert, key          []byte // the server's, PEM
}

func newCertificates() (c certificates, err error) {
	if c.serverCA, err = NewAuthority("pgtest server authority"); err != nil {
		return c, fmt.Errorf("make the server authority: %w", err)
	}
	if c.clientCA, err = NewAuthority("pgtest client authority"); err != nil {
		return c, fmt.Errorf("make the client authority: %w", err)
	}
	issued, err := c.serverCA.Issue("pgtest", "127.0.0.1", "localhost")
	if err != nil {
		return c, fmt.Errorf("issue the server certificate: %w", err)
	}
	c.cert, c.key, err = PEM(issued)
	return c, err
}

func (c certificates) server() *pglocal.TLS {
	return &pglocal.TLS{Certificate: c.cert, Key: c.key, ClientCAs: c.clientCA.PEM()}
}

// ServerCA returns the authority that signed the server's certificate.
func (s *Server) ServerCA() *Authority { return s.certs.serverCA }

// ClientCA returns the authority whose client certificates the server accepts.
func (s *Server) ClientCA() *Authority { return s.certs.clientCA }

// ClientTLS returns a configuration that verifies the server fully and shows it
// a certificate for the user.
func (s *Server) ClientTLS(t testing.TB, user string) *tls.Config {
	t.Helper()
	cert, err := s.certs.clientCA.Issue(user)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		RootCAs:      s.certs.serverCA.Pool(),
		Certificates: []tls.Certificate{cert},
		ServerName:   s.Host,
		MinVersion:   tls.VersionTLS12,
	}
}
