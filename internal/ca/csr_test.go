package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"testing"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
)

func TestParseCSR(t *testing.T) {
	t.Parallel()
	ec := func(c elliptic.Curve) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return ecdsa.GenerateKey(c, rand.Reader) }
	}
	rsaKey := func(bits int) func() (crypto.Signer, error) {
		return func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	cases := map[string]struct {
		key func() (crypto.Signer, error)
		ok  bool
	}{
		"P-256":    {ec(elliptic.P256()), true},
		"P-384":    {ec(elliptic.P384()), true},
		"RSA 2048": {rsaKey(2048), true},
		"Ed25519":  {func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err }, true},
		"P-224":    {ec(elliptic.P224()), false},
		"P-521":    {ec(elliptic.P521()), false},
		"RSA 1024": {rsaKey(1024), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := c.key()
			if err != nil {
				t.Fatal(err)
			}
			csr, err := ca.NewCSR(key)
			if err != nil {
				t.Fatal(err)
			}
			pub, err := ca.ParseCSR(csr)
			if c.ok {
				same, comparable := key.Public().(interface{ Equal(crypto.PublicKey) bool })
				if err != nil || !comparable || !same.Equal(pub) {
					t.Errorf("got %v, %v", pub, err)
				}
			} else if fault.KindOf(err) != fault.Invalid || err == nil {
				t.Errorf("got %v, want Invalid", err)
			}
		})
	}
}

func TestParseCSRRefuses(t *testing.T) {
	t.Parallel()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	good, err := ca.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	edit := func(change func(b *pem.Block)) []byte {
		b := &pem.Block{Type: block.Type, Bytes: append([]byte(nil), block.Bytes...)}
		change(b)
		return pem.EncodeToMemory(b)
	}
	for name, data := range map[string][]byte{
		"nothing":         nil,
		"not PEM":         []byte("hello"),
		"two":             append(append([]byte{}, good...), good...),
		"other type":      edit(func(b *pem.Block) { b.Type = "CERTIFICATE" }),
		"cut":             edit(func(b *pem.Block) { b.Bytes = b.Bytes[:len(b.Bytes)-1] }),
		"wrong signature": edit(func(b *pem.Block) { b.Bytes[len(b.Bytes)-1] ^= 1 }),
		"too big":         append(append([]byte{}, good...), make([]byte, 16<<10)...),
	} {
		if _, err := ca.ParseCSR(data); err == nil || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	key, err := ca.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	good, err := ca.NewCSR(key)
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(good)
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := ca.ParseCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		if (pub == nil) == (err == nil) {
			t.Errorf("got %v and %v", pub, err)
		}
	})
}
