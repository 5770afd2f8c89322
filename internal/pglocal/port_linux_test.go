package pglocal_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/postern-db/postern/internal/pglocal"
)

// While a server is stopped nobody gets its port who does not ask for just this one.
func TestPortIsKept(t *testing.T) {
	t.Parallel()
	elsewhere, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	c := start(t, pglocal.Config{Installation: distribution(t)})
	c.Stop(pglocal.Fast)
	// As the kernel does when it looks for a free port, this tells a port that is bound from one that is not.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.Port()}}
	conn, err := from.DialContext(t.Context(), "tcp", elsewhere.Addr().String())
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("from the port of a stopped server: %v, want that it is in use", err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", from.LocalAddr.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("to a stopped server: %v, want that it is refused", err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, c, "SELECT 'there'"); got != "there" {
		t.Errorf("got %q", got)
	}
}
