package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// kept is the stored form of an authority.
type kept struct {
	Version     int    `json:"version"`
	Kind        Kind   `json:"kind"`
	Cluster     string `json:"cluster"`
	Certificate string `json:"certificate"` // PEM
	Key         string `json:"key"`         // PEM, PKCS #8
}

const keptVersion = 1

// Marshal returns the stored form of a, which holds its private key in clear:
// it belongs in the state store and nowhere else. An authority whose key cannot
// leave its keeper (an HSM) cannot be marshalled (Invalid).
func (a *Authority) Marshal() ([]byte, error) {
	key, ok := a.signer.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Invalid, "the key of this authority cannot be exported")
	}
	keyPEM, err := EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(kept{
		Version: keptVersion, Kind: a.kind, Cluster: a.cluster,
		Certificate: string(EncodeCertificates(a.cert)), Key: string(keyPEM),
	})
}

// Load is the inverse of [Authority.Marshal]. It refuses (Invalid) a form it does
// not know and a key that does not belong to the certificate. A nil now is
// time.Now. Errors never quote data.
func Load(data []byte, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	damaged := fault.New(fault.Invalid, "the stored certificate authority is damaged").
		WithHint("restore the state from a backup")
	var k kept
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil {
		return nil, damaged
	}
	if k.Version != keptVersion {
		return nil, fault.New(fault.Invalid, "the stored certificate authority has a version that is not understood").
			WithHint("a newer Postern wrote it; start that version")
	}
	if _, err := k.Kind.extKeyUsage(); err != nil || k.Cluster == "" {
		return nil, damaged
	}
	certs, err := ParseCertificates([]byte(k.Certificate))
	if err != nil || len(certs) != 1 || !certs[0].IsCA {
		return nil, damaged
	}
	key, err := parseKey([]byte(k.Key))
	if err != nil || !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, damaged
	}
	return &Authority{kind: k.Kind, cluster: k.Cluster, cert: certs[0], signer: key, now: now}, nil
}

// NewKey returns a fresh ECDSA P-256 key, for authorities and for leaves.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), nil)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// EncodeKey returns key as PKCS #8 in PEM.
func EncodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fault.New(fault.Invalid, "there is not exactly one private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the private key is malformed")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Invalid, "the private key is not ECDSA")
	}
	return ec, nil
}

// EncodeCertificates returns certs in PEM, in the order given.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

// ParseCertificates returns the certificates in data, at least one. Anything else
// in data is refused (Invalid).
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Invalid, "there is something besides PEM certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, "a certificate is malformed").WithCause(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fault.New(fault.Invalid, "there is no certificate")
	}
	return certs, nil
}
