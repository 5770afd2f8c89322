package portmux_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/portmux"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

const header = "PROXY TCP4 192.0.2.7 127.0.0.1 4711 3080\r\n"

// TestProxyProtocol: the client's address is known behind a balancer, with the
// rest of the connection untouched.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	for _, first := range [][]byte{cancelRequest, startup} {
		m, addr := serve(t, portmux.Config{Proxies: loopback})
		c := dial(t, addr)
		if _, err := c.Write(append([]byte(header), first...)); err != nil {
			t.Fatal(err)
		}
		conn, _ := accept(t, m, "database")
		if got := conn.RemoteAddr().String(); got != "192.0.2.7:4711" {
			t.Errorf("the client is %s", got)
		}
		got := make([]byte, len(first))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(first) {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

// TestProxyProtocolOfOthers: nobody but a balancer says who it connects for, and a
// balancer has to.
func TestProxyProtocolOfOthers(t *testing.T) {
	t.Parallel()
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for name, c := range map[string]struct {
		proxies []netip.Prefix
		sent    string
	}{
		"a header where none is expected":     {nil, header + string(cancelRequest)},
		"a header from somewhere else":        {elsewhere, header + string(cancelRequest)},
		"a balancer without a header":         {loopback, string(cancelRequest)},
		"a balancer's header behind a packet": {loopback, string(sslRequest) + header},
		"two headers":                         {loopback, header + header + string(cancelRequest)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := serve(t, portmux.Config{Proxies: c.proxies})
			conn := dial(t, addr)
			_, _ = conn.Write([]byte(c.sent))
			if got, err := io.ReadAll(conn); len(got) != 0 || isTimeout(err) {
				t.Errorf("answer %q, %v, want the end", got, err)
			}
		})
	}
}

// TestProxyProtocolCountsClients: the share of a source is that of the client, not
// of the balancer that all come through.
func TestProxyProtocolCountsClients(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, portmux.Config{Proxies: loopback, MaxPerSource: 2})
	other := dial(t, addr)
	if _, err := other.Write([]byte("PROXY TCP4 192.0.2.99 127.0.0.1 1 2\r\n")); err != nil {
		t.Fatal(err)
	}
	first := dial(t, addr)
	for conn := first; ; conn = dial(t, addr) {
		if _, err := conn.Write([]byte(header)); err != nil {
			t.Fatal(err)
		}
		_ = first.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := first.Read(make([]byte, 1)); !isTimeout(err) {
			break // it gave way
		}
	}
	if answer := exchange(t, other, sslRequest); answer != 'S' {
		t.Errorf("another client of the balancer is answered %q", answer)
	}
}

// TestAdmit: a connection handed on counts until it is admitted or closed.
func TestAdmit(t *testing.T) {
	t.Parallel()
	m, addr := serve(t, portmux.Config{MaxPerSource: 1})
	next := func() (client, server net.Conn) {
		client = dial(t, addr)
		if _, err := client.Write(cancelRequest); err != nil {
			t.Fatal(err)
		}
		server, _ = accept(t, m, "database")
		return client, server
	}
	admitted, server := next()
	portmux.Admit(server)
	lingering, _ := next()
	next()
	if _, err := lingering.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one that was not admitted reads %v", err)
	}
	if _, err := server.Write([]byte{1}); err != nil {
		t.Errorf("an admitted connection: %v", err)
	}
	if _, err := admitted.Read(make([]byte, 1)); err != nil {
		t.Errorf("an admitted connection: %v", err)
	}
}
