package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// plainTo says where connections to a server go without TLS. With certificates
// that is nowhere. With passwords, which SCRAM does not send, it is this machine
// unless TLS is asked for, and everywhere when tls.mode says disable.
func plainTo(r *resource.Database) pgwire.Plain {
	switch {
	case r.AuthMethod() != resource.AuthPassword:
		return pgwire.PlainNowhere
	case r.TLSMode() == resource.TLSDisable:
		return pgwire.PlainAnywhere
	case r.Spec.TLS == resource.TLSSpec{} && r.CACert() == "" && !slices.ContainsFunc(r.Hosts(), leavesMachine):
		return pgwire.PlainLoopback
	}
	return pgwire.PlainNowhere
}

// leavesMachine reports whether connections to a host leave this machine, by its
// address. What the name localhost stands for is checked when it was dialled.
func leavesMachine(h resource.Host) bool {
	if h.Network() == "unix" || strings.EqualFold(h.Host, "localhost") {
		return false
	}
	addr, err := netip.ParseAddr(h.Host)
	return err != nil || !addr.Unmap().IsLoopback()
}

// serverTLS says how the agent verifies a server (behaviour.md §1.5). There is no
// fallback to plain text. The error is Invalid.
func serverTLS(r *resource.Database, clusterRoots []*x509.Certificate, cloud *aws.Cloud) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.Spec.TLS.ServerName}
	switch r.TLSMode() {
	case resource.TLSInsecure:
		cfg.InsecureSkipVerify = true // spelt out in the configuration of this database
		return cfg, nil
	case resource.TLSDisable:
		return nil, fault.Newf(fault.Invalid, "database %q: tls mode disable cannot be combined with %s authentication", r.GetName(), r.AuthMethod()).
			WithHint("use verify-full, verify-ca or insecure")
	case resource.TLSVerifyFull, resource.TLSVerifyCA:
	}
	roots, err := serverRoots(r, clusterRoots, cloud)
	if err != nil {
		return nil, err
	}
	if pem := r.CACert(); pem != "" && !roots.AppendCertsFromPEM([]byte(pem)) {
		return nil, fault.Newf(fault.Invalid, "database %q: invalid server CA certificate", r.GetName())
	}
	cfg.RootCAs = roots
	if r.TLSMode() == resource.TLSVerifyCA {
		cfg.InsecureSkipVerify = true // the chain is verified below, the name is not
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state.PeerCertificates, roots) }
	}
	return cfg, nil
}

// serverRoots returns who may have signed a server's certificate, beside the
// authorities that its resource names: the cluster for a server of our own, Amazon
// for RDS. RDS Proxy and Azure have certificates that every system knows.
func serverRoots(r *resource.Database, clusterRoots []*x509.Certificate, cloud *aws.Cloud) (*x509.CertPool, error) {
	roots, kind := x509.NewCertPool(), r.Type()
	if r.Spec.TLS.TrustSystemCertPool || kind == resource.TypeRDSProxy || kind == resource.TypeAzure {
		system, err := x509.SystemCertPool()
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "the system's certificates cannot be read: %w", err)
		}
		roots = system
	}
	if kind == resource.TypeSelfHosted {
		for _, c := range clusterRoots {
			roots.AddCert(c)
		}
	}
	if kind == resource.TypeRDS && r.CACert() == "" {
		roots.AppendCertsFromPEM(cloud.Roots())
	}
	return roots, nil
}

// verifyChain verifies a server's chain, but not its name.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return errors.New("database didn't present any certificate during initial handshake")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}
