package pgwire_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/pgwire"
)

// hastyServer has nothing to say, and its end is always noticed before a deadline
// that passes at the same time.
type hastyServer struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (s *hastyServer) Read([]byte) (int, error) {
	<-s.ended
	return 0, io.EOF
}

func (s *hastyServer) CloseWrite() error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

func (*hastyServer) SetReadDeadline(time.Time) error  { return nil }
func (*hastyServer) SetWriteDeadline(time.Time) error { return nil }

// TestTerminateReachesTheClientBeforeTheServersEnd: the end of the client's
// direction ends the server, whose end may be read before the wake-up is.
func TestTerminateReachesTheClientBeforeTheServersEnd(t *testing.T) {
	t.Parallel()
	client, gateway := net.Pipe()
	defer client.Close()
	relay := pgwire.NewRelay(pgwire.RelayConfig{Client: gateway, Server: &hastyServer{ended: make(chan struct{})}})
	var running sync.WaitGroup
	running.Go(func() {
		relay.Run(t.Context())
		gateway.Close()
	})
	relay.Terminate(&pgwire.Error{Code: "57P01", Message: "it is late"})
	said, err := io.ReadAll(client)
	running.Wait()
	if err != nil || !strings.Contains(string(said), "it is late") {
		t.Errorf("the client read %q, %v", said, err)
	}
}
