package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
	"github.com/postern-db/postern/internal/resource"
)

// serverLook is what a server shows to somebody who does not log in.
type serverLook struct {
	chain           []*x509.Certificate // empty without TLS
	asksCertificate bool
	asksPassword    bool
	refusal         error // of a login that was asked for nothing; nil where it was let in
}

var errLooked = errors.New("seen enough")

// look looks at the server as a person at the door does, trusting nothing it
// says: no password is sent.
func (add *dbAddition) look(ctx context.Context) error {
	host := add.endpoint.Hosts[0]
	dialing := pgwire.DialConfig{Hosts: []string{host.Address()}}
	if !add.opts.noTLS {
		dialing.TLS = &tls.Config{
			InsecureSkipVerify: true, // what it shows is verified below, before anything is believed
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				add.seen.asksCertificate = true
				return &tls.Certificate{}, nil
			},
			VerifyConnection: func(s tls.ConnectionState) error { add.seen.chain = s.PeerCertificates; return nil },
		}
	} else {
		dialing.Plain = pgwire.PlainAnywhere
	}
	conn, err := pgwire.Dial(ctx, dialing)
	if errors.Is(err, pgwire.ErrNoTLS) {
		dialing.TLS, dialing.Plain = nil, pgwire.PlainLoopback
		if conn, err = pgwire.Dial(ctx, dialing); fault.KindOf(err) == fault.Invalid && err != nil {
			return fault.New(fault.Unavailable, "the database server does not accept TLS").
				WithHint("set ssl = on, ssl_cert_file and ssl_key_file in its postgresql.conf; or add --no-tls where nobody else can reach the network")
		}
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Start(ctx, pgwire.StartConfig{
		User: add.db.Spec.AdminUser.Name, Database: add.opts.superuserDatabase, SCRAMOnly: true,
		Password: func(context.Context) (string, error) { return "", errLooked },
	})
	add.seen.asksPassword = errors.Is(err, errLooked) || errors.Is(err, pgwire.ErrMD5)
	if !add.seen.asksPassword {
		add.seen.refusal = err
	}
	if err := add.chooseMethod(); err != nil {
		return err
	}
	return add.chooseTrust(ctx, host)
}

// chooseMethod tells from what the server asks for how the agent logs in.
func (add *dbAddition) chooseMethod() error {
	spec := &add.db.Spec
	socket := add.endpoint.Hosts[0].Network() == "unix"
	switch {
	case spec.Auth != "" || add.db.Type() != resource.TypeSelfHosted:
	case add.seen.asksPassword, socket, add.opts.passwordFile != "", add.opts.passwordEnv != "", add.opts.noTLS:
		spec.Auth = resource.AuthPassword
	case add.seen.asksCertificate:
		spec.Auth = resource.AuthCertificate
	case add.seen.refusal == nil || refusedAfterAll(add.seen.refusal): // let in without a question: doctor warns
		spec.Auth = resource.AuthPassword
	default:
		return fault.New(fault.Unavailable, "the server does not tell how the agent should log in: "+fault.Of(add.seen.refusal).Text).
			WithHint("say --auth=password or --auth=certificate, and let pg_hba.conf of the server accept it")
	}
	what := "is " + string(add.db.AuthMethod())
	if add.db.Type() != resource.TypeSelfHosted {
		what += ", the server is of type " + string(add.db.Type())
	}
	add.tell("the way to log in %s", what)
	return nil
}

// refusedAfterAll reports whether the server let a login pass, and then knew no such user.
func refusedAfterAll(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Routine == "InitializeSessionUserId"
}

// chooseTrust says how the agent verifies the server's certificate: by what the
// cluster or the system trusts already, else by what the person trusts.
func (add *dbAddition) chooseTrust(ctx context.Context, host resource.Host) error {
	spec := &add.db.Spec
	switch {
	case len(add.seen.chain) == 0 || spec.TLS.Mode != "" || add.db.Type() != resource.TypeSelfHosted:
		return nil
	case spec.TLS.CACert != "":
		return add.checkAuthority(host)
	case spec.Auth == resource.AuthPassword && loopback(host.Host):
		return nil // no TLS is needed there
	}
	leaf := add.seen.chain[0]
	authority, err := api.ExportAuthority().Call(ctx, add.hub, api.ExportAuthorityRequest{Type: "db"})
	if err != nil {
		return err
	}
	ours := x509.NewCertPool()
	ours.AppendCertsFromPEM([]byte(authority.Certificates))
	switch {
	case verifies(add.seen.chain, host.Host, ours):
		spec.TLS.Mode = resource.TLSVerifyFull
		return nil
	case verifies(add.seen.chain, host.Host, nil):
		spec.TLS.TrustSystemCertPool = true
		return nil
	}
	print := sha256.Sum256(leaf.Raw)
	fingerprint := "sha256:" + hex.EncodeToString(print[:])
	trusted := strings.EqualFold(add.opts.trust, fingerprint)
	if !trusted && add.opts.trust == "" {
		add.tell("the server's certificate is signed by nobody whom this machine trusts:\n  for %s, by %s\n  %s", leaf.Subject, leaf.Issuer, fingerprint)
		if trusted, err = add.agreed(ctx, "Is it the server's? Compare it there with: openssl x509 -in server.crt -noout -fingerprint -sha256"); err != nil {
			return err
		}
	}
	if !trusted {
		return fault.New(fault.Denied, "the server's certificate is not trusted; it is "+fingerprint).
			WithHint("give the authority that signed it with --ca-cert=FILE, or, once you have compared the fingerprint, --trust=" + fingerprint)
	}
	// The certificate itself, and nothing else that its authority may sign.
	spec.TLS.CACert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	if spec.TLS.Mode = resource.TLSVerifyFull; leaf.VerifyHostname(host.Host) != nil {
		spec.TLS.Mode = resource.TLSVerifyCA
	}
	return nil
}

// checkAuthority checks the server's certificate with the authority given.
func (add *dbAddition) checkAuthority(host resource.Host) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(add.db.Spec.TLS.CACert))
	if !verifies(add.seen.chain, host.Host, roots) {
		return fault.Newf(fault.Denied, "the server's certificate is not one for %s by the authority in %s", host.Host, add.opts.caFile)
	}
	add.db.Spec.TLS.Mode = resource.TLSVerifyFull
	return nil
}

// loopback reports whether a host is this machine by its name.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// verifies reports whether a chain is valid for a host; nil are the system's roots.
func verifies(chain []*x509.Certificate, host string, roots *x509.CertPool) bool {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between})
	return err == nil
}
