package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/postern-db/postern/internal/fault"
)

const requestType = "CERTIFICATE REQUEST"

// Limits that bound the work a request can cause before we know who sent it.
const (
	maxRequest = 16 << 10 // bytes of PEM; an RSA-8192 request is 4 KiB
	minRSA     = 2048     // bits
	maxRSA     = 8192     // bits; verifying costs with the square of it
)

// NewCSR returns a PEM certificate request that proves possession of key. It
// names nobody: who the certificate speaks for is decided by the issuer.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: requestType, Bytes: der}), nil
}

// ParseCSR returns the public key of a PEM certificate request after checking
// that the sender holds the private key and that the key is one we sign: ECDSA
// P-256 or P-384, Ed25519, RSA of 2048 to 8192 bits. Nothing else in the request
// counts. Faults: Invalid.
func ParseCSR(data []byte) (crypto.PublicKey, error) {
	if len(data) > maxRequest {
		return nil, fault.Newf(fault.Invalid, "the certificate request is larger than %d bytes", maxRequest)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != requestType || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fault.New(fault.Invalid, "there is not exactly one PEM certificate request")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the certificate request is malformed").WithCause(err)
	}
	// The key goes first: it bounds what the signature check may cost.
	if err := checkPublicKey(req.PublicKey); err != nil {
		return nil, err
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fault.New(fault.Invalid, "the signature of the certificate request is wrong").WithCause(err)
	}
	return req.PublicKey, nil
}

func checkPublicKey(pub crypto.PublicKey) error {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		if len(key) == ed25519.PublicKeySize {
			return nil
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSA && bits <= maxRSA {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the key is of a kind that is not accepted").
		WithHint("use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")
}
