package agent_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestBehindABalancer: what is on record is the address of the client.
func TestBehindABalancer(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Hub: "proxy_protocol: [127.0.0.1]"})
	env.Address = balancer(t, env.Address, "PROXY TCP4 192.0.2.44 192.0.2.1 4711 443\r\n")
	branch := env.Hire(t, "branch", "keep", "branch_reader")
	route := identity.Route{Database: "example"}
	for _, cfg := range []*pgx.ConnConfig{branch.Direct(t, route), branch.Proxy(t, route)} {
		exec(t, testenv.Connect(t, cfg), "SELECT 1")
	}
	for _, event := range append(env.AwaitAudit(t, 2, of("branch", "TDB00I")), env.AwaitAudit(t, 1, audit.Filter{User: "branch", Events: []string{"T1000I"}})...) {
		if got := event.Text("addr.remote"); got != "192.0.2.44:4711" {
			t.Errorf("%s is on record with the address %q", event.Text("event"), got)
		}
	}
}

// balancer forwards connections to target, each beginning with header, and returns
// its address.
func balancer(t *testing.T, target, header string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var flows sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		flows.Wait()
	})
	forward := func(from, to net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}
	flows.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			flows.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", target) //nolint:noctx // ends with the test's client
				if err != nil {
					return
				}
				defer server.Close()
				if _, err := io.WriteString(server, header); err != nil {
					return
				}
				var back sync.WaitGroup
				back.Go(func() { forward(server, client) })
				forward(client, server)
				back.Wait()
			})
		}
	})
	return l.Addr().String()
}
