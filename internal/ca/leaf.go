package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// Leaf is a certificate of this process that is issued anew before it ends. Its
// key is made with it and never leaves memory. Safe for concurrent use.
type Leaf struct {
	// Issue returns a chain for pub, the leaf first.
	Issue func(ctx context.Context, pub crypto.PublicKey) ([]*x509.Certificate, error)
	Now   func() time.Time // nil means time.Now

	mu   sync.Mutex // guards the fields below
	cert *tls.Certificate
	due  time.Time // from here on a new one is wanted
}

// Get returns the current certificate. When two thirds of its life are over it
// asks for a new one, and goes on with the old one while that fails.
func (l *Leaf) Get(ctx context.Context) (*tls.Certificate, error) {
	now := time.Now
	if l.Now != nil {
		now = l.Now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cert != nil && now().Before(l.due) {
		return l.cert, nil
	}
	cert, err := l.renew(ctx)
	if err != nil {
		if l.cert != nil && now().Before(l.cert.Leaf.NotAfter) {
			return l.cert, nil
		}
		return nil, err
	}
	l.cert, l.due = cert, now().Add(cert.Leaf.NotAfter.Sub(now())*2/3)
	return l.cert, nil
}

func (l *Leaf) renew(ctx context.Context) (*tls.Certificate, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := l.Issue(ctx, key.Public())
	if err != nil {
		return nil, err
	}
	return tlsCertificate(key, chain)
}

func tlsCertificate(key *ecdsa.PrivateKey, chain []*x509.Certificate) (*tls.Certificate, error) {
	if len(chain) == 0 || !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("the certificate issued is not for the key it was asked for")
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}
