package ca_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/ca"
)

func TestLeafIsRenewedInTime(t *testing.T) {
	t.Parallel()
	now := noon
	a, err := ca.New(ca.DatabaseClient, "example.com", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	issued := 0
	var down error
	leaf := &ca.Leaf{
		Now: func() time.Time { return now },
		Issue: func(_ context.Context, pub crypto.PublicKey) ([]*x509.Certificate, error) {
			if down != nil {
				return nil, down
			}
			issued++
			cert, err := a.IssueDatabaseClient("alice", pub, time.Hour)
			return []*x509.Certificate{cert, a.Certificate()}, err
		},
	}
	for _, step := range []struct {
		name   string
		at     time.Duration
		down   error
		issued int
		fails  bool
	}{
		{"the first", 0, nil, 1, false},
		{"kept", 39 * time.Minute, nil, 1, false},
		{"renewed after two thirds", 41 * time.Minute, nil, 2, false},
		{"kept while renewing fails", 90 * time.Minute, errors.New("down"), 2, false},
		{"not beyond its end", 102 * time.Minute, errors.New("down"), 2, true},
		{"renewed when it works again", 103 * time.Minute, nil, 3, false},
	} {
		now, down = noon.Add(step.at), step.down
		cert, err := leaf.Get(t.Context())
		if (err != nil) != step.fails || issued != step.issued {
			t.Errorf("%s: error %v, issued %d times, want %d", step.name, err, issued, step.issued)
		}
		if err == nil && (len(cert.Certificate) != 2 || now.After(cert.Leaf.NotAfter)) {
			t.Errorf("%s: chain of %d, valid until %v", step.name, len(cert.Certificate), cert.Leaf.NotAfter)
		}
	}
}

func TestLeafRefusesCertificateOfAnotherKey(t *testing.T) {
	t.Parallel()
	a := authorityNow(t, ca.DatabaseClient)
	other, err := a.IssueDatabaseClient("alice", publicKey(t), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, chain := range map[string][]*x509.Certificate{"none": nil, "of another key": {other}} {
		leaf := &ca.Leaf{Issue: func(context.Context, crypto.PublicKey) ([]*x509.Certificate, error) { return chain, nil }}
		if _, err := leaf.Get(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
