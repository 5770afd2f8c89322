// Package ca holds the certificate authorities of a cluster and issues from them.
//
// There are four, each good for one thing, so that a key that leaks or a server
// that lies cannot play another part:
//
//	user       people and programs; what the hub and the agents verify
//	host       hub and agents, as servers and as clients of each other
//	db         server certificates of PostgreSQL; what agents verify
//	db_client  what an agent shows to PostgreSQL; what ssl_ca_file names
//
// [New] makes an authority, [Authority.Marshal] and [Load] keep it, the Issue
// methods sign leaves. Keys are ECDSA P-256 and used through [crypto.Signer]
// only. An Authority is immutable and safe for concurrent use.
package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// Kind says what an authority is good for.
type Kind string

// The kinds. The text is stored and appears in audit events.
const (
	User           Kind = "user"
	Host           Kind = "host"
	Database       Kind = "db"
	DatabaseClient Kind = "db_client"
)

// Kinds returns every kind, in a fixed order.
func Kinds() []Kind { return []Kind{User, Host, Database, DatabaseClient} }

// extKeyUsage is what the leaves of an authority may be used for. The authority
// itself carries it too: verifiers then refuse a leaf of the wrong authority
// even when somebody trusts that authority for too much.
func (k Kind) extKeyUsage() ([]x509.ExtKeyUsage, error) {
	switch k {
	case User, DatabaseClient:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil
	case Host:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, nil
	case Database:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, nil
	}
	return nil, fault.Newf(fault.Invalid, "there is no certificate authority %q", string(k))
}

const (
	// lifetime of an authority. Rotation replaces it earlier; the end only
	// bounds how long a forgotten one stays dangerous.
	lifetime = 10 * 365 * 24 * time.Hour
	// backdate is how far before its issue a certificate starts, for verifiers
	// whose clock is behind ours.
	backdate = time.Minute
)

// Authority is one certificate authority of a cluster.
type Authority struct {
	kind    Kind
	cluster string
	cert    *x509.Certificate
	signer  crypto.Signer
	now     func() time.Time
}

// New makes an authority with a fresh key. A nil now is time.Now.
func New(kind Kind, cluster string, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	usage, err := kind.extKeyUsage()
	if err != nil {
		return nil, err
	}
	if cluster == "" {
		return nil, fault.New(fault.Invalid, "a certificate authority needs the name of its cluster")
	}
	signer, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	start := now().UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial number keeps the subjects of successive authorities apart:
		// OpenSSL finds an issuer by subject first.
		Subject: pkix.Name{
			CommonName:   "Postern " + string(kind) + " CA",
			Organization: []string{cluster},
			SerialNumber: serial.Text(16),
		},
		NotBefore:             start.Add(-backdate),
		NotAfter:              start.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           usage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := sign(template, template, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	return &Authority{kind: kind, cluster: cluster, cert: cert, signer: signer, now: now}, nil
}

// Kind returns what a is good for.
func (a *Authority) Kind() Kind { return a.kind }

// Cluster returns the cluster that a belongs to.
func (a *Authority) Cluster() string { return a.cluster }

// Certificate returns the certificate of a. The caller must not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Pin returns the pin of a's certificate; see [Pin].
func (a *Authority) Pin() string { return Pin(a.cert) }

// String names a without its key.
func (a *Authority) String() string {
	return fmt.Sprintf("%s authority of %s, %s, key [redacted]", a.kind, a.cluster, a.Pin())
}

// GoString is String: %#v must not print the key.
func (a *Authority) GoString() string { return a.String() }

// LogValue is what logs show of a.
func (a *Authority) LogValue() slog.Value {
	return slog.GroupValue(slog.String("kind", string(a.kind)), slog.String("cluster", a.cluster), slog.String("pin", a.Pin()))
}

// Pin returns "sha256:" and the hex SHA-256 of cert's SubjectPublicKeyInfo. It
// names a key, so it stays the same when the certificate around it is renewed.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// newSerial returns a random positive number of 128 bits.
func newSerial() (*big.Int, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
		if err != nil {
			return nil, fmt.Errorf("draw serial number: %w", err)
		}
		if n.Sign() > 0 { // RFC 5280 §4.1.2.2 wants it positive
			return n, nil
		}
	}
}

func sign(template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}
