package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"github.com/postern-db/postern/internal/identity"
)

// maxVerified bounds what a [UserVerifier] remembers; beyond it everything is
// verified anew.
const maxVerified = 10_000

// UserVerifier is [VerifyUser] for one set of roots. It remembers the certificates
// whose signature it has verified, which does not change, and looks at their
// validity every time. A client that connects again and again is thus verified
// once. New roots need a new UserVerifier. Safe for concurrent use.
type UserVerifier struct {
	roots UserRoots

	mu   sync.Mutex // guards the fields below
	seen map[[sha256.Size]byte]identity.Identity
}

// NewUserVerifier returns a verifier that trusts roots.
func NewUserVerifier(roots UserRoots) *UserVerifier {
	return &UserVerifier{roots: roots, seen: map[[sha256.Size]byte]identity.Identity{}}
}

// Verify returns who the peer certificates speak for, as [VerifyUser] does.
func (v *UserVerifier) Verify(certs []*x509.Certificate, now time.Time) (identity.Identity, error) {
	if len(certs) == 0 {
		return VerifyUser(certs, v.roots, now)
	}
	key := sha256.Sum256(certs[0].Raw)
	v.mu.Lock()
	id, known := v.seen[key]
	v.mu.Unlock()
	if known && !now.Before(certs[0].NotBefore) && !now.After(certs[0].NotAfter) {
		return id.Clone(), nil
	}
	id, err := VerifyUser(certs, v.roots, now)
	if err != nil {
		return identity.Identity{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.seen) >= maxVerified {
		clear(v.seen)
	}
	v.seen[key] = id.Clone()
	return id, nil
}
