package pgwire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/postern-db/postern/internal/fault"
)

// Authentication requests, the first word of an 'R' message.
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

var (
	// ErrMethod is in the chain of the error of a login in which the server asks for
	// another proof than the one there is: another line of its pg_hba.conf counts.
	ErrMethod = errors.New("another authentication method")
	// ErrMD5 is in the chain of the error of a login that wants an MD5 proof.
	ErrMD5 = fmt.Errorf("MD5: %w", ErrMethod)
)

// authenticate answers one authentication request.
func (s *starter) authenticate(ctx context.Context, body []byte) error {
	c := cursor{rest: body}
	request := c.uint32()
	if c.short || s.authOK {
		return unexpected('R')
	}
	switch request {
	case authOK:
		// A server that began SCRAM must also prove that it knows the password.
		if s.scram != nil && !s.scram.verified {
			return fault.New(fault.Unavailable, "the database server ends SCRAM authentication without proving that it knows the password")
		}
		s.authOK = true
		return nil
	case authCleartext:
		if s.cfg.SCRAMOnly || s.cfg.SaltedPassword != nil {
			return fault.New(fault.Unavailable, "the database server asks for a password in clear text").WithCause(ErrMethod).
				WithHint("Let pg_hba.conf of the server say scram-sha-256 instead of password, ldap, pam or radius for this connection.")
		}
		if s.conn.tls == nil && !s.conn.unix {
			return fault.New(fault.Unavailable, "the database server asks for a password in clear text on a connection without TLS")
		}
		password, err := s.password(ctx)
		if err != nil {
			return err
		}
		return s.reply(appendCString(nil, password))
	case authSASL:
		return s.beginSCRAM(ctx, c.rest)
	case authSASLContinue:
		if s.scram == nil {
			return unexpected('R')
		}
		answer, err := s.scram.proof(c.rest)
		if err != nil {
			return err
		}
		return s.reply(answer)
	case authSASLFinal:
		if s.scram == nil {
			return unexpected('R')
		}
		return s.scram.verify(c.rest)
	case authMD5:
		return fault.New(fault.Unavailable, "the database server asks for MD5 authentication, which is not secure").WithCause(ErrMD5).
			WithHint("Use certificates (hostssl … cert) or scram-sha-256 in its pg_hba.conf.")
	}
	return fault.Newf(fault.Unavailable, "the database server asks for an authentication method (%d) that is not supported", request).WithCause(ErrMethod).
		WithHint("Use certificates (hostssl … cert) or scram-sha-256 in its pg_hba.conf.")
}

func (s *starter) beginSCRAM(ctx context.Context, list []byte) error {
	if s.scram != nil {
		return unexpected('R')
	}
	var offered []string
	for c := (cursor{rest: list}); ; {
		name := string(c.cstring())
		if name == "" || c.short {
			break
		}
		offered = append(offered, name)
	}
	if !slices.Contains(offered, scramSHA256) && !slices.Contains(offered, scramSHA256Plus) {
		return fault.Newf(fault.Unavailable, "the database server offers no SASL mechanism that is supported: %q", offered)
	}
	s.scram = newSCRAM(slices.Contains(offered, scramSHA256Plus), bindingData(s.conn.tls))
	if s.scram.salted = s.cfg.SaltedPassword; s.scram.salted == nil {
		password, err := s.password(ctx)
		if err != nil {
			return err
		}
		s.scram.password = saslPrep(password)
	}
	first := s.scram.first()
	answer := appendCString(nil, s.scram.mechanism())
	answer = append(answer, byte(len(first)>>24), byte(len(first)>>16), byte(len(first)>>8), byte(len(first)))
	return s.reply(append(answer, first...))
}

func (s *starter) password(ctx context.Context) (string, error) {
	if s.cfg.Password == nil {
		return "", fault.Newf(fault.Unavailable, "the database server asks for a password, but none is configured for %s", s.cfg.User).WithCause(ErrMethod).
			WithHint("Let the server accept certificates for this connection: hostssl all all all cert in its pg_hba.conf, above the lines that ask for passwords.")
	}
	password, err := s.cfg.Password(ctx)
	if err != nil {
		if _, ok := errors.AsType[*fault.Error](err); ok {
			return "", fmt.Errorf("get the password of %s: %w", s.cfg.User, err)
		}
		return "", fault.Newf(fault.Unavailable, "the password of %s cannot be obtained", s.cfg.User).WithCause(err)
	}
	if bytes.IndexByte([]byte(password), 0) >= 0 {
		return "", fault.Newf(fault.Invalid, "the password of %s cannot be sent", s.cfg.User)
	}
	return password, nil
}

// reply sends a PasswordMessage, SASLInitialResponse or SASLResponse.
func (s *starter) reply(body []byte) error {
	msg, at := begin(nil, 'p')
	_, err := s.conn.Write(finish(append(msg, body...), at))
	return err
}

// bindingData returns the tls-server-end-point channel binding of conn, or nil
// where there is none.
func bindingData(conn *tls.Conn) []byte {
	if conn == nil {
		return nil
	}
	certs := conn.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	return endPointHash(certs[0])
}
