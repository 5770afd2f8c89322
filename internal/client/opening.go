package client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pgwire"
)

// opening is the first real packet of a connection, as it came.
type opening struct {
	raw    []byte
	cancel bool // a cancel request: nobody waits for an answer
}

// readOpening reads the first packet. It declines encryption, which the way from
// here to the hub brings by itself.
func readOpening(conn net.Conn) (opening, error) {
	for range 3 { // one request for each kind of encryption, and the packet
		var raw bytes.Buffer
		packet, err := pgwire.ReadStartup(io.TeeReader(conn, &raw))
		if err != nil {
			return opening{}, err
		}
		if packet.Kind != pgwire.SSLRequest && packet.Kind != pgwire.GSSENCRequest {
			return opening{raw: raw.Bytes(), cancel: packet.Kind == pgwire.CancelRequest}, nil
		}
		if _, err := conn.Write([]byte{'N'}); err != nil {
			return opening{}, err
		}
	}
	return opening{}, errors.New("too many requests for encryption")
}

// answer ends a connection that cannot be carried with an ErrorResponse.
func (p *Proxy) answer(conn net.Conn, cause error) {
	p.log.Debug("connection refused", "error", fault.Chain(cause))
	response := pgwire.Refusal(cause)
	if fault.KindOf(cause) == fault.Unavailable {
		response.Code = "08006" // connection_failure: it is the way to the server that is cut
	}
	_ = conn.SetWriteDeadline(time.Now().Add(lingerTimeout)) // fails on closed connections only, as does the write
	if err := pgwire.WriteError(conn, response); err != nil {
		p.log.Debug("cannot answer the program", "error", err)
	}
}
