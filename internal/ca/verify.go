package ca

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

// UserRoots are the user authorities that a verifier trusts, each for the users
// of one cluster. The zero value trusts none. It is immutable once built with
// [UserRoots.With] and safe for concurrent use.
type UserRoots struct {
	clusters []clusterRoots
}

type clusterRoots struct {
	cluster string
	pool    *x509.CertPool
}

// With returns r plus certs, trusted to speak for the users of cluster and for
// nobody else, whatever their own subject says.
func (r UserRoots) With(cluster string, certs ...*x509.Certificate) UserRoots {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	clusters := make([]clusterRoots, 0, len(r.clusters)+1)
	return UserRoots{append(append(clusters, r.clusters...), clusterRoots{cluster, pool})}
}

// VerifyUser returns who the peer certificates speak for: certs[0] must be issued
// by a root, be valid at now, and say an identity of the very cluster that this
// root is trusted for. Every other answer is Unauthenticated.
//
// The identity extension is critical and unknown to crypto/tls, whose own check
// would fail. A server therefore sets ClientAuth to tls.RequireAnyClientCert and
// calls VerifyUser in VerifyConnection, which runs for resumed sessions too.
func VerifyUser(certs []*x509.Certificate, roots UserRoots, now time.Time) (identity.Identity, error) {
	if len(certs) == 0 {
		return identity.Identity{}, fault.New(fault.Unauthenticated, "there is no client certificate").
			WithHint("log in first: postern login")
	}
	cert := certs[0]
	if !identity.Understood(cert) {
		return identity.Identity{}, fault.New(fault.Unauthenticated, "the client certificate carries an unknown critical extension")
	}
	leaf := *cert // the original may be in use elsewhere
	leaf.UnhandledCriticalExtensions = nil
	cause := errors.New("no user authority is trusted")
	for _, root := range roots.clusters {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots:         root.pool,
			Intermediates: x509.NewCertPool(), // leaves come straight from a root
			CurrentTime:   now,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			cause = err
			continue
		}
		id, err := identity.FromCertificate(cert)
		if err != nil {
			return identity.Identity{}, err
		}
		if id.Cluster != root.cluster {
			return identity.Identity{}, fault.Newf(fault.Unauthenticated,
				"the authority of cluster %s issued a certificate for a user of cluster %s", root.cluster, id.Cluster)
		}
		return id, nil
	}
	return identity.Identity{}, explain(cert, now, cause)
}

func explain(cert *x509.Certificate, now time.Time, cause error) error {
	refused := fault.New(fault.Unauthenticated, "the client certificate is not issued by an authority that is trusted here").
		WithHint("log in again: postern login").WithCause(cause)
	switch {
	case now.After(cert.NotAfter):
		refused.Text = "the client certificate has expired"
	case now.Before(cert.NotBefore):
		refused.Text = "the client certificate is not valid yet"
		refused.Hint = "compare the clocks of the two machines"
	}
	return refused
}

// FindPinned returns the authority among the certificates a server showed whose
// [Pin] is pin. The caller then verifies the server against it. A server that
// shows no such certificate is not the one that was pinned (Unauthenticated).
func FindPinned(certs []*x509.Certificate, pin string) (*x509.Certificate, error) {
	for _, c := range certs {
		if c.IsCA && Pin(c) == pin {
			return c, nil
		}
	}
	return nil, fault.New(fault.Unauthenticated, "the server does not show the pinned authority").
		WithHint("check the address; the pin is printed when the hub starts and by: postern ctl status")
}
