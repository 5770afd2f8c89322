package client

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
)

// Key is a new private key together with the request to certify it. The key
// stays on this machine.
type Key struct {
	PEM []byte // PKCS #8
	CSR string // PKCS #10 in PEM
}

// NewKey makes a key and a request for a certificate. The request names nobody:
// the hub decides who the certificate speaks for.
func NewKey() (*Key, error) {
	key, err := ca.NewKey()
	if err != nil {
		return nil, err
	}
	text, err := ca.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	request, err := ca.NewCSR(key)
	if err != nil {
		return nil, err
	}
	return &Key{PEM: text, CSR: string(request)}, nil
}

// bundle joins the key and its certificate in one file, so that they can never
// be seen apart. It refuses a certificate for another key.
func (k *Key) bundle(certificate string) ([]byte, error) {
	if _, err := tls.X509KeyPair([]byte(certificate), k.PEM); err != nil {
		return nil, fault.Newf(fault.Unavailable, "the hub answered with an unusable certificate: %w", err)
	}
	return bytes.Join([][]byte{k.PEM, []byte(certificate)}, nil), nil
}

// digest is a short name for text, for file names.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
