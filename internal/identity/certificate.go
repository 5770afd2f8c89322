package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/postern-db/postern/internal/fault"
)

// Template returns a user certificate that says id, ready to be signed. Serial
// number, key and start are left to the authority. It refuses an identity that
// is not valid (Invalid).
//
// The extension is critical: a verifier that does not understand it would take a
// certificate bound to one database for a certificate without bounds. Go's
// crypto/tls is such a verifier, so servers ask for a certificate with
// tls.RequireAnyClientCert and verify it with ca.VerifyUser.
func Template(id Identity) (*x509.Certificate, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	ext, err := id.extension()
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: id.User, Organization: slices.Clone(id.Roles)},
		NotAfter:              id.Expires.UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{ext},
	}, nil
}

// FromCertificate returns the identity that cert says. It checks form only: cert
// must have been verified against the user CA of the identity's cluster, which
// ca.VerifyUser does. A certificate that [Template] could not have produced is
// refused (Unauthenticated).
func FromCertificate(cert *x509.Certificate) (Identity, error) {
	if err := checkProfile(cert); err != nil {
		return Identity{}, err
	}
	value, err := findExtension(cert)
	if err != nil {
		return Identity{}, err
	}
	id, err := parseExtension(value)
	if err != nil {
		return Identity{}, err
	}
	id.Expires = cert.NotAfter.UTC()
	if err := id.Validate(); err != nil {
		return Identity{}, refuse(fault.Of(err).Text)
	}
	if err := checkSubject(cert.Subject, id); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// Understood reports whether cert carries no critical extension besides those
// that package x509 handled and ours. A verifier that clears
// UnhandledCriticalExtensions must ask it first.
func Understood(cert *x509.Certificate) bool {
	return !slices.ContainsFunc(cert.UnhandledCriticalExtensions, func(oid asn1.ObjectIdentifier) bool {
		return !oid.Equal(ExtensionOID())
	})
}

// checkProfile refuses a certificate that is good for more than proving a user.
func checkProfile(cert *x509.Certificate) error {
	switch {
	case cert.IsCA:
		return refuse("it is an authority")
	case cert.KeyUsage != x509.KeyUsageDigitalSignature:
		return refuse("its key usage is not digital signature")
	case len(cert.UnknownExtKeyUsage) != 0 || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}):
		return refuse("its extended key usage is not client authentication")
	case len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) != 0:
		return refuse("it carries alternative names")
	case !Understood(cert):
		return refuse("it carries an unknown critical extension")
	}
	return nil
}

// findExtension returns the value of the one identity extension.
func findExtension(cert *x509.Certificate) ([]byte, error) {
	var found *pkix.Extension
	for i := range cert.Extensions {
		ext := &cert.Extensions[i]
		if !ext.Id.Equal(ExtensionOID()) {
			continue
		}
		if found != nil {
			return nil, refuse("it carries two identities")
		}
		found = ext
	}
	if found == nil {
		return nil, refuse("it carries no identity")
	}
	if !found.Critical {
		return nil, refuse("its identity is not marked critical")
	}
	return found.Value, nil
}

// checkSubject requires CN and O to say what the extension says. Order is not
// compared: DER sorts the values of a set.
func checkSubject(subject pkix.Name, id Identity) error {
	var users, roles []string
	for _, attr := range subject.Names {
		text, isText := attr.Value.(string)
		switch {
		case isText && attr.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}):
			users = append(users, text)
		case isText && attr.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 10}):
			roles = append(roles, text)
		default:
			return refuse("its subject has an attribute besides CN and O")
		}
	}
	if !slices.Equal(users, []string{id.User}) {
		return refuse("its common name is not the user")
	}
	want := slices.Sorted(slices.Values(id.Roles))
	slices.Sort(roles)
	if !slices.Equal(roles, want) {
		return refuse("its organizations are not the roles")
	}
	return nil
}
