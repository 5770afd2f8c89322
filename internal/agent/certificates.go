package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/ca"
)

const (
	// clientCertificateTTL is the life of a certificate shown to PostgreSQL, which
	// looks at it only while a connection begins.
	clientCertificateTTL = time.Hour
	// maxClientCertificates bounds the cache; beyond it all are made anew.
	maxClientCertificates = 10_000
)

// clientCertificates are the certificates for PostgreSQL, one for each database
// user, with keys that live in memory only.
type clientCertificates struct {
	issue func(ctx context.Context, databaseUser string, pub crypto.PublicKey, ttl time.Duration) ([]*x509.Certificate, error)
	now   func() time.Time

	mu     sync.Mutex // guards the fields below
	leaves map[string]*ca.Leaf
}

// get returns the certificate of a database user.
func (c *clientCertificates) get(ctx context.Context, databaseUser string) (*tls.Certificate, error) {
	return c.leaf(databaseUser).Get(ctx)
}

func (c *clientCertificates) leaf(databaseUser string) *ca.Leaf {
	c.mu.Lock()
	defer c.mu.Unlock()
	if leaf, ok := c.leaves[databaseUser]; ok {
		return leaf
	}
	if c.leaves == nil || len(c.leaves) >= maxClientCertificates {
		c.leaves = map[string]*ca.Leaf{} // cheap to make again, one signature each
	}
	leaf := &ca.Leaf{Now: c.now, Issue: func(ctx context.Context, pub crypto.PublicKey) ([]*x509.Certificate, error) {
		return c.issue(ctx, databaseUser, pub, clientCertificateTTL)
	}}
	c.leaves[databaseUser] = leaf
	return leaf
}
