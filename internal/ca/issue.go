package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

// IssueUser issues a certificate that speaks for id and lives for ttl, or until
// the login behind id ends, whichever is earlier. id.Expires is not looked at:
// the certificate's end, which is also the identity's, is NotAfter of the result.
// The authority must be the user authority of id's cluster. Faults: Invalid.
func (a *Authority) IssueUser(id identity.Identity, pub crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	if id.Cluster != a.cluster {
		return nil, fault.Newf(fault.Invalid, "the user authority of %s does not speak for users of %q", a.cluster, id.Cluster)
	}
	end, err := a.end(ttl)
	if err != nil {
		return nil, err
	}
	if !id.LoginExpires.IsZero() && id.LoginExpires.Before(end) {
		end = id.LoginExpires
		if !end.After(a.now()) {
			return nil, fault.New(fault.Invalid, "the login has ended").WithHint("log in again: postern login")
		}
	}
	id.Expires = end
	template, err := identity.Template(id)
	if err != nil {
		return nil, err
	}
	return a.issue(User, template, pub)
}

// IssueHost issues a certificate for a hub or an agent that is reached under
// names and ips; there must be at least one. Names may start with "*.".
// Faults: Invalid.
func (a *Authority) IssueHost(names []string, ips []netip.Addr, pub crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	hosts := slices.Clone(names)
	for _, ip := range ips {
		hosts = append(hosts, ip.String())
	}
	return a.issueServer(Host, hosts, pub, ttl)
}

// IssueDatabaseServer issues a certificate for a PostgreSQL server that is reached
// under hosts, which are names or addresses. Clients that look at the common
// name only see the first. Faults: Invalid.
func (a *Authority) IssueDatabaseServer(hosts []string, pub crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	return a.issueServer(Database, hosts, pub, ttl)
}

// maxDatabaseUser is PostgreSQL's limit for the name of a role. A longer one
// would be cut by the server and then stand for somebody else.
const maxDatabaseUser = 63

// IssueDatabaseClient issues a certificate with which an agent logs in to
// PostgreSQL as dbUser. The common name is dbUser byte for byte, which is what
// PostgreSQL compares. Faults: Invalid.
func (a *Authority) IssueDatabaseClient(dbUser string, pub crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	switch {
	case dbUser == "":
		return nil, fault.New(fault.Invalid, "the database user is empty")
	case len(dbUser) > maxDatabaseUser:
		return nil, fault.Newf(fault.Invalid, "the database user is longer than %d bytes", maxDatabaseUser)
	case !utf8.ValidString(dbUser) || strings.ContainsRune(dbUser, 0):
		return nil, fault.New(fault.Invalid, "the database user is not text that PostgreSQL could hold")
	}
	end, err := a.end(ttl)
	if err != nil {
		return nil, err
	}
	return a.issue(DatabaseClient, &x509.Certificate{
		Subject:  pkix.Name{CommonName: dbUser},
		NotAfter: end,
	}, pub)
}

func (a *Authority) issueServer(kind Kind, hosts []string, pub crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	if len(hosts) == 0 {
		return nil, fault.New(fault.Invalid, "a server certificate needs a host name or address")
	}
	end, err := a.end(ttl)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{NotAfter: end, Subject: pkix.Name{Organization: []string{a.cluster}}}
	for _, host := range hosts {
		ip, err := netip.ParseAddr(host)
		switch {
		case err == nil && ip.Zone() == "":
			template.IPAddresses = append(template.IPAddresses, net.IP(ip.Unmap().AsSlice()))
		case isHostName(host):
			template.DNSNames = append(template.DNSNames, host)
		default:
			return nil, fault.Newf(fault.Invalid, "%q is not a host name or address", host).
				WithHint("write names without port, and international ones in their xn-- form")
		}
	}
	if len(hosts[0]) <= maxCommonName {
		template.Subject.CommonName = hosts[0]
	}
	return a.issue(kind, template, pub)
}

// maxCommonName is ub-common-name of RFC 5280 appendix A. A longer host name
// stands in the alternative names only, where every current verifier looks.
const maxCommonName = 64

// issue completes template with what all leaves have in common and signs it.
func (a *Authority) issue(kind Kind, template *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	if a.kind != kind {
		return nil, fault.Newf(fault.Invalid, "the %s authority does not issue %s certificates", a.kind, kind)
	}
	if err := checkPublicKey(pub); err != nil {
		return nil, err
	}
	usage, err := kind.extKeyUsage()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = a.now().UTC().Truncate(time.Second).Add(-backdate)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if _, isRSA := pub.(*rsa.PublicKey); isRSA && kind == Database {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment // RSA key exchange of TLS 1.2
	}
	template.ExtKeyUsage = usage
	template.BasicConstraintsValid = true
	return sign(template, a.cert, pub, a.signer)
}

// end returns when a certificate of ttl issued now ends. No leaf outlives its
// authority: a verifier would refuse it from then on without a good reason given.
func (a *Authority) end(ttl time.Duration) (time.Time, error) {
	if ttl < time.Second {
		return time.Time{}, fault.New(fault.Invalid, "a certificate must live for a second at least")
	}
	now := a.now()
	end := now.Add(ttl)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	end = end.UTC().Truncate(time.Second)
	if !end.After(now) {
		return time.Time{}, fault.Newf(fault.Invalid, "the %s authority of %s has expired", a.kind, a.cluster).
			WithHint("rotate it")
	}
	return end, nil
}

// isHostName accepts DNS names as verifiers compare them: ASCII labels of
// letters, digits, "-" and "_", the first of which may be "*". The last one is
// not a number, which would be a mistyped address.
func isHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return false
	}
	return !slices.ContainsFunc(labels, func(l string) bool {
		return l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, labelCharacters) != ""
	})
}

const labelCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
