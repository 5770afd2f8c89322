package portmux

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// script is a connection whose peer sends its pieces one after the other.
type script struct {
	readOnly
	pieces  [][]byte
	written bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return s.written.Write(p) }

// FuzzPeek checks that nothing sent first makes peek panic, read without bound, or
// hand on other bytes than those that came behind its answers.
func FuzzPeek(f *testing.F) {
	ssl := []byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}
	gss := []byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x30}
	hello := clientHello(f)
	f.Add(ssl, hello, []byte{})
	f.Add(gss, ssl, hello)
	f.Add(hello[:100], hello[100:], []byte{})
	f.Add([]byte{0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 1, 2, 3, 4}, []byte{}, []byte{})
	f.Add([]byte{0, 0, 0, 9, 0, 3, 0, 0, 0}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		s := &script{}
		for _, piece := range [][]byte{a, b, c} {
			if len(piece) > 0 {
				s.pieces = append(s.pieces, piece)
			}
		}
		sent := bytes.Join([][]byte{a, b, c}, nil)
		h, seen, err := peek(s)
		if err != nil {
			return
		}
		answers := s.written.Len()
		if len(seen) > maxHello || !bytes.HasPrefix(sent[requestSize*answers:], seen) {
			t.Fatalf("%d bytes handed on are not what was sent behind %d requests", len(seen), answers)
		}
		if tlsKind := h.Kind == KindTLS || h.Kind == KindNegotiatedTLS; tlsKind != (seen[0] == recordHandshake) {
			t.Fatalf("kind %v begins with %#x", h.Kind, seen[0])
		}
		if h.Kind == KindNegotiatedTLS != bytes.HasSuffix(s.written.Bytes(), []byte("S")) {
			t.Fatalf("kind %v after answers %q", h.Kind, s.written.Bytes())
		}
	})
}

// clientHello returns the first flight of a TLS client.
func clientHello(tb testing.TB) []byte {
	client, server := net.Pipe()
	defer server.Close()
	_ = client.SetDeadline(time.Now().Add(5 * time.Second))
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: "shop.db.example.com", NextProtos: []string{"postgresql"}}).HandshakeContext(context.Background())
	}()
	buf := make([]byte, 16<<10)
	n, err := server.Read(buf)
	if err != nil {
		tb.Fatal(err)
	}
	return buf[:n]
}

func BenchmarkPeek(b *testing.B) {
	hello := clientHello(b)
	for b.Loop() {
		if _, _, err := peek(&script{pieces: [][]byte{hello}}); err != nil {
			b.Fatal(err)
		}
	}
}
