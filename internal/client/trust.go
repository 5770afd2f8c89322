package client

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
)

const pinPrefix = "sha256:"

// trust decides whether a certificate is the hub's. Of the three ways a pin
// excludes the others: who gives one wants nothing else to count.
type trust struct {
	address     string // as dialled, for messages
	host        string // as dialled, without the port
	pin         string // of the host CA, as ca.Pin writes it; may be empty
	hostCAs     *x509.CertPool
	systemRoots bool
}

// parsePin checks the form of a pin, sha256:<64 hex digits>; empty text is no pin.
func parsePin(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	digits, found := strings.CutPrefix(text, pinPrefix)
	if sum, err := hex.DecodeString(digits); text != "" && (!found || err != nil || len(sum) != sha256.Size) {
		return "", fault.New(fault.Invalid, "the CA pin is not sha256: followed by 64 hex digits").
			WithHint("'postern ctl status' on the hub's machine shows the pin")
	}
	return text, nil
}

// config is the TLS configuration for calls to the API of the hub.
func (t *trust) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: t.serverName(),
		// The standard check knows one set of roots and one name. verify does it
		// itself, for every connection, and refuses by default.
		InsecureSkipVerify: true,
		VerifyConnection:   t.verify,
	}
}

// serverName is the name to ask for. A hub may show a certificate that browsers
// trust under its public name; by its own name it always shows that of the host CA,
// which is the only one that a pin or remembered host CAs can verify.
func (t *trust) serverName() string {
	if t.systemRoots {
		return t.host
	}
	return api.HubServerName
}

func (t *trust) verify(state tls.ConnectionState) error {
	err := t.check(state.PeerCertificates)
	if err == nil {
		return nil
	}
	hint := "'postern ctl status' on the hub's machine shows its CA pin; log in with --ca-pin=" + pinPrefix + "…"
	if t.pin != "" {
		hint = "compare --ca-pin with what 'postern ctl status' shows on the hub's machine; if it is right, somebody may be in between"
	}
	return fault.Newf(fault.Unavailable, "the certificate of %s is not trusted: %w", t.address, err).WithHint(hint)
}

func (t *trust) check(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("there is none")
	}
	if t.pin != "" {
		pinned, err := ca.FindPinned(chain, t.pin)
		if err != nil {
			return err
		}
		return verifyChain(chain, poolOf(pinned), api.HubServerName)
	}
	err := errors.New("no authority is known for it")
	if t.hostCAs != nil {
		if err = verifyChain(chain, t.hostCAs, api.HubServerName); err == nil {
			return nil
		}
	}
	if t.systemRoots {
		err = verifyChain(chain, nil, t.host)
	}
	return err
}

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}

// verifyChain verifies the first certificate for a server of that name. Without
// roots the system's count.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName:       name,
		Roots:         roots,
		Intermediates: poolOf(chain[1:]...),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// parseCAs reads CA certificates in PEM. It refuses anything else, so that what
// is remembered as an authority is one.
func parseCAs(text []byte) (*x509.CertPool, error) {
	certs, err := ca.ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		if !cert.IsCA {
			return nil, errors.New("a certificate among the host CAs is not a CA")
		}
	}
	return poolOf(certs...), nil
}
