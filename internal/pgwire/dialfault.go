package pgwire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/postern-db/postern/internal/fault"
)

// dialFault gives a failed connection attempt a text and a hint.
func dialFault(host string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return fmt.Errorf("connect to %s: %w", host, err)
	}
	f := fault.Newf(fault.Unavailable, "the database server %s cannot be reached", host).WithCause(err)
	if f2 := tlsFault(err); f2 != nil {
		return f2.WithDetail(fmt.Sprintf("Server %s: %s.", host, errText(err))).WithCause(err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return fault.Newf(fault.Unavailable, "the database server %s closes the connection", host).WithCause(err).
			WithHint("Its log says why: it may not trust our certificate (ssl_ca_file), or something on the way may close connections.")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		f = fault.Newf(fault.Unavailable, "the database server %s does not answer in time", host).WithCause(err)
	}
	return f.WithHint("Check that it runs, and that its address and port in the database's uri are right and open to this machine.")
}

// tlsFault names the causes of a failed TLS handshake that people can repair. It
// returns nil for other errors.
func tlsFault(err error) *fault.Error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fault.New(fault.Unavailable, "the database server's certificate is not signed by an authority we trust for it").
			WithHint("Sign one with `postern ctl auth sign --format=db`, or set tls.ca_cert of the database to the authority that signed it.")
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return fault.New(fault.Unavailable, "the database server's certificate has expired or is not valid yet").
				WithHint("Renew it with `postern ctl auth sign --format=db` and reload the server.")
		}
		return fault.New(fault.Unavailable, "the database server's certificate is not valid")
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fault.New(fault.Unavailable, "the database server's certificate is for another name").
			WithHint("Sign one for this name with `postern ctl auth sign --format=db --host=NAME`, or set tls.server_name of the database.")
	}
	if remoteAlert(err) {
		return fault.New(fault.Unavailable, "the database server refuses the TLS connection").
			WithHint("Its ssl_ca_file must hold the output of `postern ctl auth export --type=db-client`; reload it after a change.")
	}
	return nil
}

// remoteAlert reports whether the server ended TLS with an alert. The type of the
// alert is not exported; the operation is how crypto/tls marks it.
func remoteAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}

// errText is the text of a certificate error without what wraps it.
func errText(err error) string {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
