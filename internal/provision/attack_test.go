package provision_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// prove logs in on a new connection with SCRAM-SHA-256, with what is or is passed
// off as the client's key (RFC 5802, section 3). It reads nothing behind
// AuthenticationOk. Errors are what PostgreSQL answers, or the connection's.
func prove(conn net.Conn, user, database string, clientKey []byte) error {
	send := func(m pgproto3.FrontendMessage) error {
		packet, err := m.Encode(nil)
		if err == nil {
			_, err = conn.Write(packet)
		}
		return err
	}
	const bare = "n=,r=somebody"
	var next pgproto3.FrontendMessage = &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": user, "database": database},
	}
	for {
		if next != nil {
			if err := send(next); err != nil {
				return err
			}
		}
		typ, body, err := receive(conn)
		if err != nil {
			return err
		}
		if typ == 'E' {
			var refused pgproto3.ErrorResponse
			if err := refused.Decode(body); err != nil {
				return err
			}
			return pgconn.ErrorResponseToPgError(&refused)
		}
		if typ != 'R' || len(body) < 4 {
			return fmt.Errorf("unexpected message of type %q", typ)
		}
		switch request := binary.BigEndian.Uint32(body); request {
		case pgproto3.AuthTypeOk:
			return nil
		case pgproto3.AuthTypeSASL:
			next = &pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,," + bare)}
		case pgproto3.AuthTypeSASLContinue:
			challenge := string(body[4:])
			nonce, _, _ := strings.Cut(challenge, ",")
			final := "c=biws," + nonce
			stored := sha256.Sum256(clientKey)
			proof := mac(stored[:], bare+","+challenge+","+final)
			subtle.XORBytes(proof, proof, clientKey)
			next = &pgproto3.SASLResponse{Data: []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof))}
		case pgproto3.AuthTypeSASLFinal:
			next = nil
		default:
			return fmt.Errorf("unexpected authentication request %d", request)
		}
	}
}

// receive reads one message and nothing behind it.
func receive(conn net.Conn) (typ byte, body []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(conn, body)
	return head[0], body, err
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// proveWith tries to log in as somebody who knows one of the keys of a verifier, and
// passes it off as the client's key, which both are made of.
func proveWith(t testing.TB, addr, user, database, key64 string) error {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(key64)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return prove(conn, user, database, key)
}

// withKey returns cfg for a login with a key instead of a password, which pgx does
// not know: the login is done when pgx gets the connection.
func withKey(cfg *pgx.ConnConfig, salted []byte) *pgx.ConnConfig {
	cfg = cfg.Copy()
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if err := prove(conn, cfg.User, cfg.Database, mac(salted, "Client Key")); err != nil {
			conn.Close()
			return nil, err
		}
		ok, err := (&pgproto3.AuthenticationOk{}).Encode(nil)
		return &loggedIn{Conn: conn, ahead: ok}, err
	}
	return cfg
}

// loggedIn is a connection whose login is done, for somebody who is about to begin it.
type loggedIn struct {
	net.Conn
	ahead []byte // what is read first
	begun bool
}

func (c *loggedIn) Read(b []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

func (c *loggedIn) Write(b []byte) (int, error) {
	if !c.begun { // the StartupMessage, which pgx sends in one piece
		c.begun = true
		return len(b), nil
	}
	return c.Conn.Write(b)
}
