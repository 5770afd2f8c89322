package pgwire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// ServerConn is a connection to a PostgreSQL server: after [Dial] ready for
// [ServerConn.Start], after that ready for a [Relay]. It reads nothing ahead.
type ServerConn struct {
	net.Conn            // TLS, unless a Unix socket or allowed to be plain
	cfg      DialConfig // its only host is where cancel requests go
	host     string     // as configured
	unix     bool
	tls      *tls.Conn // nil without TLS

	// What Dial was asked for, and the hosts that it has not tried; until LogIn returns.
	from *DialConfig
	rest []string
}

// Host returns the host that was reached, as written in [DialConfig].
func (c *ServerConn) Host() string { return c.host }

// Machine returns how to reach the very server that c is connected to, not another
// behind the same name. The TLS configuration verifies it as c did and shows no certificate.
func (c *ServerConn) Machine() DialConfig {
	cfg := c.cfg
	cfg.Kind, cfg.Last = AnyServer, nil
	if cfg.TLS != nil {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.Certificates, cfg.TLS.GetClientCertificate = nil, nil
	}
	return cfg
}

// CloseWrite tells the server that nothing more will be sent.
func (c *ServerConn) CloseWrite() error { return closeWrite(c.Conn) }

// Idle waits on a connection that [Dial] has just made until ctx ends; then it
// returns nil and the connection is as good as before. It returns an error as soon
// as the server has closed the connection, or has said something unasked.
func (c *ServerConn) Idle(ctx context.Context) error {
	var unasked [1]byte
	n, err := 0, error(nil)
	interrupted := whileContext(ctx, c.Conn, func() error {
		// With TLS 1.3 there may be session tickets and key updates to read, which
		// crypto/tls takes care of.
		n, err = c.Read(unasked[:])
		return err
	})
	switch {
	case n > 0:
		return fault.New(fault.Unavailable, "the database server sends something before it was asked")
	case ctx.Err() != nil && isTimeout(err):
		return c.SetDeadline(time.Time{})
	}
	return interrupted
}

// Finish ends the session and waits until the server has closed its side: its
// process is then gone from pg_stat_activity. A process that is busy notices only
// when its statement ends, so cancel it first. The connection is closed in any
// case; the error says that the server was not seen to end before ctx did.
func (c *ServerConn) Finish(ctx context.Context) error {
	defer c.Close()
	_ = c.SetDeadline(time.Time{}) // a relay leaves the one that ended it
	err := whileContext(ctx, c.Conn, func() error {
		_ = c.CloseWrite() // fails when the server is gone already, which is what we want
		return drain(c.Conn)
	})
	if err != nil {
		return fmt.Errorf("wait for the end of the server's process: %w", err)
	}
	return nil
}

// drain reads until the peer has closed its side, by whatever means.
func drain(conn net.Conn) error {
	var waste [1024]byte
	for {
		if _, err := conn.Read(waste[:]); err != nil {
			if isTimeout(err) {
				return err
			}
			return nil // end of file or reset: gone either way
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// closeWrite closes the writing half of conn where it has one.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Cancel asks the server that c is connected to, the very machine, to cancel the
// statement that the process b is running, and waits until the request is
// handled. It says nothing about whether there was anything to cancel.
func (c *ServerConn) Cancel(ctx context.Context, b *Backend) error {
	return SendCancel(ctx, c.cfg, b.PID, b.Secret)
}

// SendCancel sends a CancelRequest over a connection of its own, with TLS like
// the session's, and waits until the server closes it. Errors are those of
// [Dial], and of a server that does not close before ctx ends.
func SendCancel(ctx context.Context, cfg DialConfig, pid uint32, secret []byte) error {
	conn, err := Dial(ctx, cfg)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	defer conn.Close()
	packet := make([]byte, 12, 12+len(secret))
	binary.BigEndian.PutUint32(packet, uint32(12+len(secret)))
	binary.BigEndian.PutUint32(packet[4:], codeCancel)
	binary.BigEndian.PutUint32(packet[8:], pid)
	packet = append(packet, secret...)
	err = whileContext(ctx, conn.Conn, func() error {
		if _, err := conn.Write(packet); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, io.LimitReader(conn, 1024))
		return ignoreEnd(err)
	})
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	return nil
}

// ignoreEnd keeps only the errors that mean that the peer is still there.
func ignoreEnd(err error) error {
	if err != nil && isTimeout(err) {
		return err
	}
	return nil
}
