package pgwire

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzSCRAM checks that no challenge makes the client panic or prove anything to a
// server that does not extend its nonce, and that only the one right signature is
// taken.
func FuzzSCRAM(f *testing.F) {
	f.Add([]byte("x,s=AAAA,i=1"), []byte("v=AAAA"))
	f.Add([]byte("x,s=AAAA,i=4096,m=more"), []byte("e=other-error"))
	f.Add([]byte(",s=,i=-1"), []byte("v="))
	f.Add([]byte("x,s=AAAA,i=99999999999999999999"), []byte(""))
	f.Fuzz(func(t *testing.T, extension, final []byte) {
		for _, begin := range []string{"", "r="} { // the nonce of another exchange, and ours
			s := newSCRAM(true, []byte("hash"))
			s.salted = []byte("a key, so that no iterations are counted")
			challenge := append([]byte(begin), extension...)
			if begin != "" {
				challenge = append([]byte(begin+s.nonce), extension...)
			}
			proof, err := s.proof(challenge)
			if begin == "" && err == nil {
				t.Fatalf("%q is proven something", challenge)
			}
			if err == nil && (!bytes.HasPrefix(proof, []byte("c=")) || bytes.Contains(proof, s.salted)) {
				t.Fatalf("proof %q", proof)
			}
			if s.verify(final) == nil {
				t.Fatalf("%q is taken for a signature", final)
			}
		}
	})
}

// FuzzParseError checks that what was decoded of an ErrorResponse is sent on and
// decoded again as the same.
func FuzzParseError(f *testing.F) {
	f.Add([]byte("SERROR\x00VERROR\x00C42P01\x00Mno such table\x00P15\x00Fparse.c\x00L1\x00Rx\x00\x00"))
	f.Add([]byte("SFEHLER\x00C42P01\x00Mx"))
	f.Add([]byte("Mone\x00Mtwo\x00Hhint\x00Ddetail\x00?\x00\x00"))
	f.Add(bytes.Repeat([]byte("Wx\x00"), maxErrorFields+1))
	f.Fuzz(func(t *testing.T, body []byte) {
		e := ParseError(body)
		wire := e.Append(nil)
		typ, again, err := readMessage(bytes.NewReader(wire), nil, len(wire))
		if err != nil || typ != 'E' {
			t.Fatalf("%q is sent as %q: %v", body, wire, err)
		}
		got := ParseError(again)
		if len(e.Extra) < maxErrorFields-8 { // else not all fits again
			if twice := got.Append(nil); !bytes.Equal(twice, wire) {
				t.Fatalf("%q is sent as %q, then as %q", body, wire, twice)
			}
		}
		_ = e.Error() + e.PgError().Error()
		e.AppendNotice(nil)
	})
}

// FuzzStart logs in to a server that says anything.
func FuzzStart(f *testing.F) {
	f.Add(bytes.Join([][]byte{msg('R', "\x00\x00\x00\x00"), msg('S', "a\x001\x00"), msg('K', "\x00\x00\x00\x07abcd"), msg('Z', "I")}, nil))
	f.Add(bytes.Join([][]byte{msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00"), msg('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"), msg('R', "\x00\x00\x00\x0br=x,s=AAAA,i=1")}, nil))
	f.Add(msg('R', "\x00\x00\x00\x03"))
	f.Add(msg('N', "SNOTICE\x00\x00"))
	f.Add(msg('E', "SFATAL\x00\x00"))
	f.Fuzz(func(t *testing.T, answers []byte) {
		client, server := net.Pipe()
		defer client.Close()
		_ = server.SetDeadline(time.Now().Add(testTimeout))
		heard := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(server)
			heard <- all
		}()
		go func() {
			_, _ = server.Write(answers)
			server.Close()
		}()
		b, err := (&ServerConn{Conn: client}).Start(t.Context(), StartConfig{
			User: "u", Database: "d", ProtocolMinor: 2, SaltedPassword: []byte("secret key"),
		})
		if err == nil && (len(b.Secret) > maxCancelKey || b.Minor > 2 || len(b.Notices) > maxStartNotices) {
			t.Fatalf("%q makes %+v", answers, b)
		}
		client.Close()
		if sent := <-heard; bytes.Contains(sent, []byte("secret key")) {
			t.Fatalf("%q is told the key", answers)
		}
	})
}
