package provision_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// proveWith logs in with SCRAM-SHA-256 as somebody who knows one of the keys of a
// verifier, and passes it off as the client's key, which both are made of.
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
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": user, "database": database}})
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	const bare = "n=,r=attacker"
	for {
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		message, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := message.(type) {
		case *pgproto3.AuthenticationSASL:
			f.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,," + bare)})
		case *pgproto3.AuthenticationSASLContinue:
			challenge := string(bytes.Clone(m.Data))
			nonce, _, _ := strings.Cut(challenge, ",")
			final := "c=biws," + nonce
			stored := sha256.Sum256(key)
			proof := mac(stored[:], bare+","+challenge+","+final)
			subtle.XORBytes(proof, proof, key)
			f.Send(&pgproto3.SASLResponse{Data: []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof))})
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		case *pgproto3.AuthenticationOk:
			return nil
		default:
			return fmt.Errorf("unexpected %T", m)
		}
	}
}
