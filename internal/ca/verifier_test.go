package ca_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

// TestVerifierRemembersSignaturesOnly: what was verified once is refused all the
// same before its time, after it, and when anything of it differs.
func TestVerifierRemembersSignaturesOnly(t *testing.T) {
	t.Parallel()
	authority, err := ca.New(ca.User, "main", nil)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(a *ca.Authority, user string) *x509.Certificate {
		t.Helper()
		key, err := ca.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := a.IssueUser(identity.Identity{User: user, Cluster: "main", Roles: []string{"dev"}, Expires: time.Now().Add(time.Hour)}, key.Public(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	v := ca.NewUserVerifier(ca.UserRoots{}.With("main", authority.Certificate()))
	alice, now := issue(authority, "alice"), time.Now()
	first, err := v.Verify([]*x509.Certificate{alice}, now)
	if err != nil || first.User != "alice" {
		t.Fatalf("got %+v, %v", first, err)
	}
	first.Roles[0] = "changed by the caller"
	again, err := v.Verify([]*x509.Certificate{alice}, now)
	if diff := cmp.Diff([]string{"dev"}, again.Roles); diff != "" || err != nil {
		t.Errorf("the second time (-want +got):\n%s %v", diff, err)
	}
	stranger, err := ca.New(ca.User, "main", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		certs []*x509.Certificate
		at    time.Time
	}{
		"expired":           {[]*x509.Certificate{alice}, alice.NotAfter.Add(time.Second)},
		"not yet valid":     {[]*x509.Certificate{alice}, alice.NotBefore.Add(-time.Second)},
		"another authority": {[]*x509.Certificate{issue(stranger, "alice")}, now},
		"none":              {nil, now},
	} {
		if _, err := v.Verify(try.certs, try.at); fault.KindOf(err) != fault.Unauthenticated || err == nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
