package portmux_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/postern-db/postern/internal/portmux"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is a PostgreSQL packet that has only a code.
func request(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

var (
	sslRequest    = request(80877103)
	gssRequest    = request(80877104)
	cancelRequest = append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16}, 80877102), 0, 0, 0, 7, 1, 2, 3, 4)
	startup       = append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 19}, 3<<16), "user\x00alice\x00\x00"[:11]...)
)

// serve runs a mux on a free port.
func serve(t *testing.T, cfg portmux.Config) (*portmux.Mux, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener, cfg.Log = l, slog.New(slog.DiscardHandler)
	if cfg.Route == nil {
		cfg.Route = portmux.StandardRoute("example.com", "database", "web")
	}
	m, err := portmux.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Listener("database")
	m.Listener("web")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return m, l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func accept(t *testing.T, m *portmux.Mux, target string) (net.Conn, portmux.Hello) {
	t.Helper()
	c, err := m.Listener(target).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	h, ok := portmux.HelloOf(c)
	if !ok {
		t.Error("HelloOf knows nothing of an accepted connection")
	}
	return c, h
}

func TestTLSIsRoutedAndReplayed(t *testing.T) {
	t.Parallel()
	cert := selfSigned(t)
	tests := []struct {
		name   string
		before [][]byte // sent before TLS, each answered by one byte
		sni    string
		alpn   []string
		target string
		want   portmux.Hello
	}{
		{name: "web", sni: "hub.example.com", alpn: []string{"h2", "http/1.1"}, target: "web", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "web names a database host", sni: "shop.db.example.com", alpn: []string{"h2"}, target: "web", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "nothing known", target: "web", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "direct TLS of libpq 17", sni: "shop.db.example.com", alpn: []string{"postgresql"}, target: "database", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "local proxy", alpn: []string{"postern-db"}, target: "database", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "local proxy of others", alpn: []string{"teleport-postgres-ping", "teleport-postgres"}, target: "database", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "server name only", sni: "Shop.DB.example.com", target: "database", want: portmux.Hello{Kind: portmux.KindTLS}},
		{name: "SSLRequest", before: [][]byte{sslRequest}, target: "database", want: portmux.Hello{Kind: portmux.KindNegotiatedTLS}},
		{name: "GSSENCRequest, SSLRequest", before: [][]byte{gssRequest, sslRequest}, sni: "a.db.example.com", target: "database", want: portmux.Hello{Kind: portmux.KindNegotiatedTLS}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, addr := serve(t, portmux.Config{})
			c := dial(t, addr)
			for _, packet := range tt.before {
				answer := map[byte]byte{sslRequest[7]: 'S', gssRequest[7]: 'N'}[packet[7]]
				if got := exchange(t, c, packet); got != answer {
					t.Fatalf("answer %q, want %q", got, answer)
				}
			}
			client := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: tt.sni, NextProtos: tt.alpn})
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				if _, err := client.Write([]byte("ping")); err != nil {
					t.Errorf("client write: %v", err)
				}
				if err := client.CloseWrite(); err != nil {
					t.Errorf("CloseWrite: %v", err)
				}
			})
			conn, hello := accept(t, m, tt.target)
			tt.want.SNI, tt.want.ALPN = strings.ToLower(tt.sni), tt.alpn
			if diff := cmp.Diff(tt.want, hello); diff != "" {
				t.Errorf("hello (-want +got):\n%s", diff)
			}
			server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: tt.alpn})
			if got, err := io.ReadAll(server); err != nil || string(got) != "ping" {
				t.Errorf("read %q, %v, want ping", got, err)
			}
			if _, ok := portmux.HelloOf(server); !ok {
				t.Error("HelloOf does not look through TLS")
			}
		})
	}
}

func exchange(t *testing.T, c net.Conn, packet []byte) byte {
	t.Helper()
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return answer[0]
}

func TestClearTextPacketsAreHandedOnWhole(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		packet []byte
		kind   portmux.Kind
	}{
		{"cancel request", cancelRequest, portmux.KindCancel},
		{"start-up", startup, portmux.KindStartup},
	}
	for _, tt := range tests {
		for _, step := range []int{len(tt.packet), 1, 7} {
			t.Run(fmt.Sprintf("%s in pieces of %d", tt.name, step), func(t *testing.T) {
				t.Parallel()
				m, addr := serve(t, portmux.Config{})
				c := dial(t, addr)
				for rest := tt.packet; len(rest) > 0; rest = rest[min(step, len(rest)):] {
					if _, err := c.Write(rest[:min(step, len(rest))]); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				conn, hello := accept(t, m, "database")
				if hello.Kind != tt.kind {
					t.Errorf("kind %v, want %v", hello.Kind, tt.kind)
				}
				got, err := io.ReadAll(conn)
				if err != nil || !bytes.Equal(got, tt.packet) {
					t.Errorf("read %q, %v, want %q", got, err, tt.packet)
				}
				if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Errorf("CloseWrite: %v", err)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("client reads %v, want EOF", err)
				}
			})
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		sent   []byte
		answer string
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ""},
		{"zeros", make([]byte, 64), ""},
		{"start-up packet too long", binary.BigEndian.AppendUint32([]byte{0, 0, 0x27, 0x15}, 3<<16), ""},
		{"unknown code", request(80877199), ""},
		{"data stuffed behind SSLRequest", append(append([]byte(nil), sslRequest...), startup...), ""},
		{"data stuffed behind GSSENCRequest", append(append([]byte(nil), gssRequest...), sslRequest...), ""},
		{"SSLRequest with a wrong length", append([]byte{0, 0, 0, 9}, append(sslRequest[4:len(sslRequest):len(sslRequest)], 0)...), ""},
		{"TLS record that is not a ClientHello", []byte{0x16, 3, 1, 0, 4, 2, 0, 0, 0}, ""},
		{"huge TLS record", append([]byte{0x16, 3, 1, 0xff, 0xff}, make([]byte, 70000)...), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, addr := serve(t, portmux.Config{})
			c := dial(t, addr)
			_, _ = c.Write(tt.sent)
			got, err := io.ReadAll(c)
			if string(got) != tt.answer || isTimeout(err) {
				t.Errorf("answer %q, %v, want %q and the end", got, err, tt.answer)
			}
		})
	}
}

func TestRefusedAfterAnswer(t *testing.T) {
	t.Parallel()
	for name, packets := range map[string][][]byte{
		"second SSLRequest":         {sslRequest, sslRequest},
		"second GSSENCRequest":      {gssRequest, gssRequest},
		"GSSENCRequest after S":     {sslRequest, gssRequest},
		"clear-text start-up":       {sslRequest, startup},
		"clear-text cancel after S": {sslRequest, cancelRequest},
		"stuffing after GSSENC":     {gssRequest, append(append([]byte(nil), sslRequest...), 0)},
		"HTTP after SSLRequest":     {sslRequest, []byte("GET / HTTP/1.1\r\n\r\n")},
		"garbage record after S":    {sslRequest, append([]byte{0x16}, bytes.Repeat([]byte{0xee}, 40000)...)},
		"application data after S":  {sslRequest, {0x17, 3, 3, 0, 1, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := serve(t, portmux.Config{})
			c := dial(t, addr)
			exchange(t, c, packets[0])
			_, _ = c.Write(packets[1])
			if got, err := io.ReadAll(c); len(got) != 0 || isTimeout(err) {
				t.Errorf("answer %q, %v, want the end", got, err)
			}
		})
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestSilentClientTimesOut(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, portmux.Config{PeekTimeout: 50 * time.Millisecond})
	silent, slow := dial(t, addr), dial(t, addr)
	if _, err := slow.Write(sslRequest[:3]); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{silent, slow} {
		if _, err := io.ReadAll(c); isTimeout(err) {
			t.Error("a client that says nothing is kept")
		}
	}
}

func TestLingeringConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	m, addr := serve(t, portmux.Config{MaxHalfOpen: 8, MaxPerSource: 4})
	var silent []net.Conn
	for range 40 {
		silent = append(silent, dial(t, addr))
	}
	good := dial(t, addr)
	if _, err := good.Write(cancelRequest); err != nil {
		t.Fatal(err)
	}
	if _, hello := accept(t, m, "database"); hello.Kind != portmux.KindCancel {
		t.Errorf("kind %v", hello.Kind)
	}
	// The oldest were dropped long before their deadline.
	_ = silent[0].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(silent[0]); isTimeout(err) {
		t.Error("the oldest of too many silent connections is kept")
	}
}

func TestClosedListenerRefuses(t *testing.T) {
	t.Parallel()
	m, addr := serve(t, portmux.Config{})
	l := m.Listener("database")
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v, want net.ErrClosed", err)
	}
	c := dial(t, addr)
	if _, err := c.Write(cancelRequest); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); isTimeout(err) {
		t.Error("a connection for a closed listener is kept")
	}
}

func TestServeEndsWithConnectionsInEveryState(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := portmux.New(portmux.Config{
		Listener: l, Log: slog.New(slog.DiscardHandler),
		Route: func(portmux.Hello) string { return "database" },
	})
	if err != nil {
		t.Fatal(err)
	}
	target := m.Listener("database")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx) }()
	silent, queued := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	if _, err := queued.Write(cancelRequest); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	for _, c := range []net.Conn{silent, queued} {
		if _, err := io.ReadAll(c); isTimeout(err) {
			t.Error("a connection outlives Serve")
		}
	}
	if _, err := target.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Serve: %v", err)
	}
}
