package agent_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// attacks are what strangers send first, before they fall silent.
func attacks(cluster string) []func(context.Context, net.Conn) error {
	packet := func(length, code uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, length), code), rest...)
	}
	send := func(data []byte) func(context.Context, net.Conn) error {
		return func(_ context.Context, conn net.Conn) error {
			_, err := conn.Write(data)
			return err
		}
	}
	over := func(cfg *tls.Config, data []byte) func(context.Context, net.Conn) error {
		cfg.InsecureSkipVerify, cfg.MinVersion = true, tls.VersionTLS12
		return func(ctx context.Context, conn net.Conn) error {
			secured := tls.Client(conn, cfg.Clone())
			if err := secured.HandshakeContext(ctx); err != nil {
				return err
			}
			_, err := secured.Write(data)
			return err
		}
	}
	const ssl, version3 = 80877103, 3 << 16
	door := &tls.Config{ServerName: "example.db." + cluster, NextProtos: []string{"postgresql"}}
	return []func(context.Context, net.Conn) error{
		send(nil),
		send(packet(8, ssl)[:3]), // and the rest never
		send(packet(8, ssl)),
		send([]byte{0x16, 3, 1, 2, 0}),                          // the beginning of a ClientHello
		send(packet(0x7fffffff, version3)),                      // a giant length
		send(packet(0xffffffff, version3)),                      // a negative one
		send(packet(0, version3)),                               // one that does not hold itself
		send(packet(8, ssl, packet(8, version3)...)),            // stuffed behind an SSLRequest
		send(packet(10000, version3, []byte("user\x00x")...)),   // a packet that never ends
		send(packet(16, 80877102, 0, 0, 0, 7, 1, 2, 3, 4)),      // a cancel request with a guessed key
		send(bytes.Repeat([]byte{0xee}, 4096)),                  // garbage
		send([]byte("GET / HTTP/1.1\r\nHost: x\r\n")),           // without TLS
		over(&tls.Config{}, []byte("GET / HTTP/1.1\r\nHost: ")), // a header that never ends
		over(&tls.Config{ServerName: door.ServerName}, nil),     // no ALPN
		over(door, nil),
		over(door, packet(0x7fffffff, version3)),
		over(door, packet(0xffffffff, version3)),
		over(door, packet(10000, version3, []byte("user\x00x")...)),
		over(door, bytes.Repeat([]byte{0}, 64)),
	}
}

// TestHostilePeers: while 10,000 connections of strangers linger at the public
// port, in every state that they can reach, sessions that run go on and people
// connect.
func TestHostilePeers(t *testing.T) {
	env := testenv.Start(t, testenv.Options{}) // not parallel: it takes most file descriptors that a process may have
	route := identity.Route{Database: "example"}
	calm := env.Hire(t, "calm", "keep", "calm_reader")
	direct, proxy := calm.Direct(t, route), calm.Proxy(t, route)
	running := testenv.Connect(t, direct)

	var trips atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var session errgroup.Group
	session.Go(func() error {
		for ctx.Err() == nil {
			if _, err := running.Exec(context.WithoutCancel(ctx), "SELECT 1"); err != nil {
				return err
			}
			trips.Add(1)
		}
		return nil
	})

	besiege(t, env, 10_000)
	during := trips.Load()
	for range 3 {
		for _, cfg := range []*pgx.ConnConfig{direct, proxy} {
			conn := testenv.Connect(t, cfg)
			exec(t, conn, "SELECT 1")
			testenv.Close(t, conn)
		}
	}
	if err := calm.TryLogin(t, testenv.Password); err != nil {
		t.Errorf("nobody can log in: %v", err)
	}
	testenv.Eventually(t, "the session goes on", func() bool { return trips.Load() > during+100 })
	stop()
	if err := session.Wait(); err != nil {
		t.Errorf("the running session was disturbed: %v", err)
	}
	testenv.Close(t, running)
	awaitAccount(t, env, "calm", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

// besiege opens connections from many addresses, which stay open until the test
// ends unless the gateway closes them.
func besiege(t *testing.T, env *testenv.Env, many int) {
	t.Helper()
	const sources = 40
	kinds := attacks(env.Cluster)
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		for _, conn := range open {
			conn.Close()
		}
	})
	var attackers errgroup.Group
	attackers.SetLimit(64)
	for i := range many {
		attackers.Go(func() error {
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%sources))}}
			conn, err := from.DialContext(t.Context(), "tcp", env.Address)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			// One in twenty says something, all the others nothing: TLS costs the attacker too.
			if i%20 != 0 {
				return nil
			}
			attack := kinds[i/20%len(kinds)]
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_ = attack(t.Context(), conn) // the gateway may hang up at any point
			return nil
		})
	}
	if err := attackers.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestHostilePeersAreHungUpOn: none of them is kept for longer than the time that
// a client has, and none is told more than an ErrorResponse.
func TestHostilePeersAreHungUpOn(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	var hungUp sync.WaitGroup
	for i, attack := range attacks(env.Cluster) {
		hungUp.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", env.Address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
			_ = attack(t.Context(), conn)
			if _, err := io.Copy(io.Discard, io.LimitReader(conn, 1<<16)); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // net returns it unwrapped
					t.Errorf("attack %d is kept", i)
				}
			}
		})
	}
	hungUp.Wait()
}
