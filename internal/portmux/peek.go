package portmux

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	// maxHello bounds the bytes read for one ClientHello. Those of today have 0.3 to
	// 2 kB; session tickets and post-quantum keys make them grow.
	maxHello = 32 << 10

	// PostgreSQL's request codes, at the place of a protocol version.
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSENC = 80877104

	requestSize    = 8     // SSLRequest, GSSENCRequest, and the head of all others
	maxStartupSize = 10004 // PostgreSQL's limit with the length word

	recordHandshake = 0x16 // the first byte of a TLS handshake
)

// Reasons for which a connection is closed without an answer.
var (
	errUnknownProtocol = errors.New("neither TLS nor PostgreSQL")
	errStuffed         = errors.New("data follows an encryption request that is not answered yet")
	errRepeated        = errors.New("repeated encryption request")
)

// peek reads the beginning of conn, answers requests for encryption, and returns
// what the rest of the program has to read again. The deadline is the caller's.
func peek(conn net.Conn) (Hello, []byte, error) {
	var ssl, gss bool
	for {
		// More than 8 bytes are asked for, so that bytes stuffed behind a request are
		// seen (CVE-2021-23214): whoever is in the middle could put them there, and they
		// must not end up in the session.
		first, err := readFirst(conn)
		if err != nil {
			return Hello{}, nil, err
		}
		switch {
		case first[0] == recordHandshake:
			hello, seen, err := peekTLS(conn, first)
			if ssl {
				hello.Kind = KindNegotiatedTLS
			}
			return hello, seen, err
		case first[0] != 0 || ssl:
			return Hello{}, nil, errUnknownProtocol
		}
		code := binary.BigEndian.Uint32(first[4:])
		if code != codeSSL && code != codeGSSENC {
			kind, err := classify(first)
			return Hello{Kind: kind}, first, err
		}
		answer := byte('S')
		repeated := &ssl
		if code == codeGSSENC {
			answer, repeated = 'N', &gss
		}
		switch {
		case binary.BigEndian.Uint32(first) != requestSize:
			return Hello{}, nil, errUnknownProtocol
		case len(first) != requestSize:
			return Hello{}, nil, errStuffed
		case *repeated:
			return Hello{}, nil, errRepeated
		}
		*repeated = true
		if _, err := conn.Write([]byte{answer}); err != nil {
			return Hello{}, nil, err
		}
	}
}

// readFirst reads until it is clear what begins here: one byte for TLS, otherwise
// the 8 bytes that all PostgreSQL packets have.
func readFirst(conn net.Conn) ([]byte, error) {
	buf := make([]byte, 512)
	n := 0
	for n == 0 || buf[0] == 0 && n < requestSize {
		m, err := conn.Read(buf[n:])
		if n += m; err != nil && (n == 0 || buf[0] == 0 && n < requestSize) {
			return nil, err
		}
	}
	return buf[:n], nil
}

// classify names a packet that is not a request for encryption. Only its head is
// judged; the handler reads it whole.
func classify(first []byte) (Kind, error) {
	size, code := binary.BigEndian.Uint32(first), binary.BigEndian.Uint32(first[4:])
	switch {
	case size < requestSize || size > maxStartupSize:
		return 0, errUnknownProtocol
	case code == codeCancel:
		return KindCancel, nil
	case code>>16 >= 1 && code>>16 <= 9:
		return KindStartup, nil // any version: the handler says which it supports
	}
	return 0, errUnknownProtocol
}

// errSeen stops the handshake once the ClientHello was read.
var errSeen = errors.New("hello seen")

// peekTLS lets crypto/tls read the ClientHello from a connection that remembers
// what was read and writes nothing.
func peekTLS(conn net.Conn, first []byte) (Hello, []byte, error) {
	var seen bytes.Buffer
	limited := io.LimitReader(io.MultiReader(bytes.NewReader(first), conn), maxHello)
	var hello *tls.ClientHelloInfo
	server := tls.Server(readOnly{io.TeeReader(limited, &seen)}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			hello = info
			return nil, errSeen
		},
	})
	if err := server.HandshakeContext(context.Background()); hello == nil {
		return Hello{}, nil, fmt.Errorf("read ClientHello: %w", err)
	}
	return Hello{
		Kind: KindTLS,
		SNI:  strings.ToLower(strings.TrimSuffix(hello.ServerName, ".")),
		ALPN: hello.SupportedProtos,
	}, seen.Bytes(), nil
}

// readOnly is a connection that can only be read.
type readOnly struct{ io.Reader }

func (readOnly) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }
