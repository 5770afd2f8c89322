package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startProxy logs in at hub and serves a proxy for its database. The address is
// that of a loopback port.
func startProxy(t *testing.T, hub *fakeHub) string {
	t.Helper()
	return startProxyAt(t, hub, time.Now)
}

func startProxyAt(t *testing.T, hub *fakeHub, now func() time.Time) string {
	t.Helper()
	home := &client.Home{Dir: t.TempDir(), Now: now}
	h, err := home.Connect(login(t, home, hub))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := client.ListenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Proxy(identity.Route{Database: "example"}, slog.New(slog.DiscardHandler)).Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		h.Close()
	})
	return address
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

var startup = mustEncode(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "alice"}})

func mustEncode(m pgproto3.FrontendMessage) []byte {
	data, err := m.Encode(nil)
	if err != nil {
		panic(err)
	}
	return data
}

func echo(conn *tls.Conn) {
	_, _ = io.Copy(conn, conn)
	_ = conn.CloseWrite()
}

// Every connection gets back what it sent, the start-up packet included, and
// then the end: half-close passes in both directions.
func TestProxyCarriesManyConnections(t *testing.T) {
	t.Parallel()
	hub := newFakeHub(t)
	address := startProxy(t, hub)
	var wg sync.WaitGroup
	for range 50 {
		conn := dial(t, address)
		wg.Go(func() {
			payload := make([]byte, 300_000)
			_, _ = rand.Read(payload)
			sent := append(bytes.Clone(startup), payload...)
			var writing sync.WaitGroup
			writing.Go(func() {
				if _, err := conn.Write(sent); err != nil {
					t.Error(err)
				}
				_ = conn.CloseWrite()
			})
			got, err := io.ReadAll(conn)
			writing.Wait()
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("got %d of %d bytes, %v", len(got), len(sent), err)
			}
		})
	}
	wg.Wait()
	if got := hub.issued.Load(); got != 1 {
		t.Errorf("%d certificates for connections at the same time", got)
	}
}

// A proxy outlives its first certificate.
func TestProxyRenewsItsCertificate(t *testing.T) {
	t.Parallel()
	hub := newFakeHub(t)
	var later atomic.Int64
	address := startProxyAt(t, hub, func() time.Time { return time.Now().Add(time.Duration(later.Load())) })
	once := func() {
		t.Helper()
		conn := dial(t, address)
		if _, err := conn.Write(startup); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, len(startup))); err != nil {
			t.Fatal(err)
		}
	}
	once()
	once()
	if got := hub.issued.Load(); got != 1 {
		t.Errorf("%d certificates for two connections", got)
	}
	later.Store(int64(databaseTTL))
	once()
	if got := hub.issued.Load(); got != 2 {
		t.Errorf("%d certificates after the first has expired", got)
	}
}

func TestProxyDeclinesEncryption(t *testing.T) {
	t.Parallel()
	hub := newFakeHub(t)
	conn := dial(t, startProxy(t, hub))
	for _, m := range []pgproto3.FrontendMessage{&pgproto3.GSSEncRequest{}, &pgproto3.SSLRequest{}} {
		if _, err := conn.Write(mustEncode(m)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
			t.Fatalf("%T: %q, %v", m, answer, err)
		}
	}
	if _, err := conn.Write(startup); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(startup))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, startup) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A cancel request travels while the connection it is about is busy, and no
// answer is made up for it.
func TestProxyCarriesCancel(t *testing.T) {
	t.Parallel()
	cancelled := make(chan uint32, 1)
	hub := startFakeHub(t, func(conn *tls.Conn) {
		head := make([]byte, 16)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		if binary.BigEndian.Uint32(head[4:]) == 80877102 {
			cancelled <- binary.BigEndian.Uint32(head[8:])
			return // as PostgreSQL: closed without a word
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	address := startProxy(t, hub)
	busy := dial(t, address)
	if _, err := busy.Write(startup); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, address)
	if _, err := conn.Write(mustEncode(&pgproto3.CancelRequest{ProcessID: 42, SecretKey: []byte{1, 2, 3, 4}})); err != nil {
		t.Fatal(err)
	}
	if pid := <-cancelled; pid != 42 {
		t.Errorf("pid = %d", pid)
	}
	if got, err := io.ReadAll(conn); err != nil || len(got) != 0 {
		t.Errorf("answer %q, %v", got, err)
	}
}

// Whatever keeps a connection from being carried reaches the program as an
// ErrorResponse.
func TestProxyExplains(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		session           func(*tls.Conn)
		prepare           func(*testing.T, *fakeHub)
		code, text, hints string
	}{
		"no certificate": {echo, func(_ *testing.T, h *fakeHub) {
			h.refuse.Store(fault.New(fault.Denied, "access to database \"example\" denied").WithHint("ask for it"))
		}, "28000", "access to database \"example\" denied", "ask for it"},
		"login ended": {echo, func(_ *testing.T, h *fakeHub) {
			h.refuse.Store(fault.New(fault.Unauthenticated, "the login has expired"))
		}, "28000", "the login has expired", "postern login --proxy="},
		"certificate refused": {echo, func(t *testing.T, h *fakeHub) {
			h.user.Store(newCA(t, ca.User)) // signs from now on, and nobody trusts it
		}, "28000", "refused the database certificate", "postern login"},
		"hub silent": {func(conn *tls.Conn) {
			_, _ = io.ReadFull(conn, make([]byte, 8))
		}, func(*testing.T, *fakeHub) {}, "08006", "the connection", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := startFakeHub(t, test.session)
			address := startProxy(t, hub)
			test.prepare(t, hub)
			pgErr := connectError(t, address)
			if pgErr.Severity != "FATAL" || pgErr.Code != test.code || !strings.Contains(pgErr.Message, test.text) || !strings.Contains(pgErr.Hint, test.hints) {
				t.Errorf("got %s %s %q (%q)", pgErr.Severity, pgErr.Code, pgErr.Message, pgErr.Hint)
			}
		})
	}
}

// connectError connects as a driver does and returns the error of the server.
func connectError(t *testing.T, address string) *pgconn.PgError {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), "postgres://alice@"+address+"/shop?sslmode=prefer&connect_timeout=20")
	if err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("connected")
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("not an ErrorResponse: %v", err)
	}
	return pgErr
}

func TestProxyAnswersAnUnknownProtocol(t *testing.T) {
	t.Parallel()
	hub := newFakeHub(t)
	conn := dial(t, startProxy(t, hub))
	if _, err := conn.Write([]byte{0, 0, 0, 8, 0, 9, 0, 0}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Contains(got, []byte("unsupported frontend protocol")) {
		t.Errorf("got %q, %v", got, err)
	}
}

// The end of the proxy ends connections that would go on for ever.
func TestProxyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	hub := newFakeHub(t)
	home := &client.Home{Dir: t.TempDir()}
	h, err := home.Connect(login(t, home, hub))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ln, err := client.ListenPrivate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- h.Proxy(identity.Route{Database: "example"}, slog.New(slog.DiscardHandler)).Serve(ctx, ln)
	}()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", ln.Host+"/.s.PGSQL."+ln.Port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(startup); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(startup))); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
}

func TestListenLoopbackRefusesOthers(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "x"} {
		ln, err := client.ListenLoopback(t.Context(), address)
		if err == nil {
			_ = ln.Close()
		}
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", address, err)
		}
	}
}
