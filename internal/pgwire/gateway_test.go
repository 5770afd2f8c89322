package pgwire

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/pgtest"
)

// gateway is the smallest program that carries sessions with this package: TLS
// or clear text in front, TLS with a client certificate towards the server.
type gateway struct {
	t       testing.TB
	addr    string
	server  *pgtest.Server
	observe func() *Observe
	keys    CancelKeys
	groups  GroupMemory

	mu      sync.Mutex
	relays  []*Relay // guarded by mu
	results []Result // guarded by mu
	backend []*Backend
}

func newGateway(t testing.TB, server *pgtest.Server, observe func() *Observe) *gateway {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, addr: l.Addr().String(), server: server, observe: observe}
	ctx, cancel := context.WithCancel(context.Background())
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer conn.Close()
				g.serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		sessions.Wait()
	})
	return g
}

func (g *gateway) serve(ctx context.Context, conn net.Conn) {
	refuse := func(err error) {
		if ctx.Err() == nil {
			_ = WriteError(conn, Refusal(err))
			_ = CloseClient(conn)
		}
	}
	var startup *Startup
	for {
		var err error
		if startup, err = ReadStartup(conn); err != nil {
			refuse(err)
			return
		}
		switch startup.Kind {
		case SSLRequest:
			if _, err := io.WriteString(conn, "S"); err != nil {
				return
			}
			serverTLS, _ := testTLS()
			conn = tls.Server(conn, serverTLS)
			continue
		case GSSENCRequest:
			if _, err := io.WriteString(conn, "N"); err != nil {
				return
			}
			continue
		case CancelRequest:
			_, _ = g.keys.Cancel(ctx, conn.RemoteAddr(), startup.PID, startup.Secret) // nobody is told
			return
		case StartupMessage:
		}
		break
	}
	if err := g.session(ctx, conn, startup); err != nil {
		refuse(err)
	}
}

func (g *gateway) session(ctx context.Context, client net.Conn, startup *Startup) error {
	server, err := Dial(ctx, DialConfig{Hosts: []string{g.server.Addr()}, TLS: g.server.ClientTLS(g.t, startup.User()), Groups: &g.groups})
	if err != nil {
		return err
	}
	defer server.Close()
	var params []Param
	for _, p := range startup.Params {
		if p.Name != "user" && p.Name != "database" {
			params = append(params, p)
		}
	}
	backend, err := server.Start(ctx, StartConfig{
		User: startup.User(), Database: startup.Database(), Params: params, ProtocolMinor: startup.Negotiated(),
	})
	if err != nil {
		return err
	}
	secret, release := g.keys.Register(backend.PID, startup.Negotiated(), func(ctx context.Context) error { return server.Cancel(ctx, backend) })
	defer release()
	if _, err := client.Write(AppendWelcome(startup.AppendNegotiation(nil), backend, secret)); err != nil {
		return err
	}
	cfg := RelayConfig{Client: client, Server: server}
	if g.observe != nil {
		cfg.Observe = g.observe()
	}
	relay := NewRelay(cfg)
	g.mu.Lock()
	g.relays, g.backend = append(g.relays, relay), append(g.backend, backend)
	g.mu.Unlock()
	result := relay.Run(ctx)
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Finish(finish); err != nil {
		g.t.Errorf("finish: %v", err)
	}
	g.mu.Lock()
	g.results = append(g.results, result)
	g.mu.Unlock()
	_ = CloseClient(client)
	return nil
}
