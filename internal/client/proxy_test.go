package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// startProxy serves a proxy for the database. The address is that of a loopback port.
func startProxy(t *testing.T, h *client.Hub) string {
	t.Helper()
	ln, err := client.ListenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Proxy(toExample, slog.New(slog.DiscardHandler)).Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return address
}

var toExample = identity.Route{Database: testenv.Database}

// program returns how a driver connects to a proxy. It asks for encryption first.
func (u *user) program(address string) string {
	return "postgres://" + u.name + "@" + address + "/postgres?sslmode=prefer&connect_timeout=60"
}

// connect connects as a driver does.
func (u *user) connect(t *testing.T, address string) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), u.program(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = conn.Close(ctx) // the test may have broken it
	})
	return conn
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func (u *user) startup(t *testing.T) []byte {
	t.Helper()
	return encode(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": u.name, "database": "postgres"},
	})
}

func encode(t *testing.T, m pgproto3.FrontendMessage) []byte {
	t.Helper()
	data, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Every connection gets back what it sent, through one certificate.
func TestProxyCarriesManyConnections(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	address := startProxy(t, u.connected(t, &client.Home{Dir: t.TempDir()}))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			conn, err := pgconn.Connect(t.Context(), u.program(address))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(t.Context())
			payload := make([]byte, 300_000)
			_, _ = rand.Read(payload)
			result := conn.ExecParams(t.Context(), "SELECT $1::bytea", [][]byte{payload}, nil, []int16{1}, []int16{1}).Read()
			if result.Err != nil || len(result.Rows) != 1 || !bytes.Equal(result.Rows[0][0], payload) {
				t.Errorf("something else came back, %v", result.Err)
			}
		})
	}
	wg.Wait()
	if got := u.issued(t); got != 1 {
		t.Errorf("%d certificates for connections at the same time", got)
	}
}

// A program that says it has nothing more to say gets its answers, all of them, and
// then the end.
func TestProxyCarriesTheEnd(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	conn := dial(t, startProxy(t, u.connected(t, &client.Home{Dir: t.TempDir()})))
	sent := slices.Concat(u.startup(t), encode(t, &pgproto3.Query{String: "SELECT repeat('x', 3000000)"}))
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || bytes.Count(got, []byte("x")) < 3_000_000 || !bytes.HasSuffix(got, []byte("SELECT 1\x00Z\x00\x00\x00\x05I")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A proxy outlives its first certificate.
func TestProxyRenewsItsCertificate(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	var later atomic.Int64
	home := &client.Home{Dir: t.TempDir(), Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }}
	h := u.connected(t, home)
	address := startProxy(t, h)
	u.connect(t, address)
	u.connect(t, address)
	if got := u.issued(t); got != 1 {
		t.Errorf("%d certificates for two connections", got)
	}
	later.Store(int64(time.Until(h.Profile.Expires)))
	u.connect(t, address)
	if got := u.issued(t); got != 2 {
		t.Errorf("%d certificates after the first has expired", got)
	}
}

func TestProxyDeclinesEncryption(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	conn := dial(t, startProxy(t, u.connected(t, &client.Home{Dir: t.TempDir()})))
	for _, m := range []pgproto3.FrontendMessage{&pgproto3.GSSEncRequest{}, &pgproto3.SSLRequest{}} {
		if _, err := conn.Write(encode(t, m)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
			t.Fatalf("%T: %q, %v", m, answer, err)
		}
	}
	if _, err := conn.Write(u.startup(t)); err != nil {
		t.Fatal(err)
	}
	if m, err := pgproto3.NewFrontend(conn, conn).Receive(); err != nil {
		t.Error(err)
	} else if _, ok := m.(*pgproto3.AuthenticationOk); !ok {
		t.Errorf("got %T", m)
	}
}

// A cancel request travels while the connection it is about is busy, and no
// answer is made up for it.
func TestProxyCarriesCancel(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	address := startProxy(t, u.connected(t, &client.Home{Dir: t.TempDir()}))
	busy := u.connect(t, address)
	ended := make(chan error, 1)
	go func() {
		_, err := busy.Exec(t.Context(), "SELECT pg_sleep(600)").ReadAll()
		ended <- err
	}()
	u.AwaitQuery(t, u.name, "pg_sleep")
	conn := dial(t, address)
	if _, err := conn.Write(encode(t, &pgproto3.CancelRequest{ProcessID: busy.PID(), SecretKey: busy.SecretKey()})); err != nil {
		t.Fatal(err)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](<-ended); !ok || pgErr.Code != "57014" {
		t.Errorf("the query ended with %v", pgErr)
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
		prepare           func(*testing.T, *user, *client.Home)
		code, text, hints string
	}{
		"no database": {func(t *testing.T, u *user, _ *client.Home) {
			u.Remove(t, "role", u.name+"-writer")
			u.Remove(t, "role", u.name+"-reader")
		}, "3D000", `database "example" not found`, "postern db ls"},
		"no user": {func(t *testing.T, u *user, _ *client.Home) {
			u.Remove(t, "user", u.name)
		}, "28000", "does not exist any more", ""},
		"login ended": {func(t *testing.T, u *user, home *client.Home) {
			yesterday := time.Now().Add(-24 * time.Hour)
			u.forge(t, u.loginFile(t, home), u.Authority(t, ca.User, at(yesterday)), identity.Route{}, yesterday.Add(time.Hour).Truncate(time.Second))
		}, "28000", "expired", "postern login"},
		"certificate refused": {func(t *testing.T, u *user, home *client.Home) {
			u.forgeDatabase(t, home)
		}, "28000", "not issued by an authority that is trusted here", "postern login"},
		"certificate refused at once": {func(t *testing.T, u *user, home *client.Home) {
			cfg := u.door(t, u.Authority(t, ca.Host, nil))
			cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			u.takeOver(t, home, impostor(t, cfg, func(*tls.Conn) { t.Error("nobody is trusted, and yet it connected") }))
		}, "28000", "refused the database certificate", "postern login"},
		"hub silent": {func(t *testing.T, u *user, home *client.Home) {
			u.takeOver(t, home, impostor(t, u.door(t, u.Authority(t, ca.Host, nil)), func(conn *tls.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, 8))
			}))
		}, "08006", "closed the connection before the session began", ""},
		"hub cut off": {func(t *testing.T, u *user, home *client.Home) {
			u.takeOver(t, home, impostor(t, u.door(t, u.Authority(t, ca.Host, nil)), func(conn *tls.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, 8))
				cut(conn.NetConn())
			}))
		}, "08006", "broke before the session began", ""},
		"another authority": {func(t *testing.T, u *user, home *client.Home) {
			u.takeOver(t, home, impostor(t, u.door(t, newCA(t, ca.Host, testenv.Cluster)), func(*tls.Conn) { t.Error("it was trusted") }))
		}, "08006", "is not trusted", "log in again"},
		"no TLS": {func(t *testing.T, u *user, home *client.Home) {
			u.takeOver(t, home, listen(t, func(_ context.Context, conn net.Conn) { _, _ = conn.Write([]byte("SSH-2.0-OpenSSH\r\n")) }))
		}, "08006", "cannot reach the hub", ""},
		"nobody": {func(t *testing.T, u *user, home *client.Home) {
			u.takeOver(t, home, "127.0.0.1:1")
		}, "08006", "cannot reach the hub", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, home := newUser(t), &client.Home{Dir: t.TempDir()}
			p := u.login(t, home)
			test.prepare(t, u, home)
			h, err := home.Connect(p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.Close)
			conn, err := pgconn.Connect(t.Context(), u.program(startProxy(t, h)))
			if err == nil {
				_ = conn.Close(t.Context())
				t.Fatal("connected")
			}
			pgErr, ok := errors.AsType[*pgconn.PgError](err)
			if !ok {
				t.Fatalf("not an ErrorResponse: %v", err)
			}
			if pgErr.Severity != "FATAL" || pgErr.Code != test.code || !strings.Contains(pgErr.Message, test.text) || !strings.Contains(pgErr.Hint, test.hints) {
				t.Errorf("got %s %s %q (%q)", pgErr.Severity, pgErr.Code, pgErr.Message, pgErr.Hint)
			}
		})
	}
}

func TestProxyAnswersAnUnknownProtocol(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	conn := dial(t, startProxy(t, u.connected(t, &client.Home{Dir: t.TempDir()})))
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
	u := newUser(t)
	h := u.connected(t, &client.Home{Dir: t.TempDir()})
	ln, err := client.ListenPrivate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- h.Proxy(toExample, slog.New(slog.DiscardHandler)).Serve(ctx, ln)
	}()
	conn, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=%s dbname=postgres", ln.Host, ln.Port, u.name))
	if err != nil {
		cancel()
		t.Fatal(err, <-served)
	}
	defer conn.Close(t.Context())
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := conn.Conn().Read(make([]byte, 1)); err == nil {
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
