package bench

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/pgtest"
)

// silentServer stands in for PostgreSQL where thousands of its processes would
// leave no memory for anything else, and where it would take longer than what is measured:
// it does TLS, lets everybody in, answers a query of four bytes, which are a length,
// with one value of that length, and takes a COPY of any length.
type silentServer struct {
	net.Listener
	tls   *tls.Config
	conns sync.WaitGroup
}

func startSilentServer(b *testing.B, authority *pgtest.Authority) *silentServer {
	b.Helper()
	ln, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cert, err := authority.Issue("localhost", "localhost", "127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	s := &silentServer{Listener: ln, tls: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12,
		// As PostgreSQL up to 17: no tickets, this group, and records as large as what is written.
		SessionTicketsDisabled: true, CurvePreferences: []tls.CurveID{tls.CurveP256}, DynamicRecordSizingDisabled: true,
	}}
	s.conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() {
				defer conn.Close()
				_ = s.serve(conn) // what goes wrong, the client reports
			})
		}
	})
	b.Cleanup(func() {
		ln.Close()
		s.conns.Wait() // the gateway closes its connections before
	})
	return s
}

func (s *silentServer) serve(conn net.Conn) error {
	var request [8]byte // SSLRequest
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return err
	}
	secure := tls.Server(conn, s.tls)
	defer secure.Close()
	startup, err := pgproto3.NewBackend(secure, secure).ReceiveStartupMessage()
	if err != nil {
		return err
	}
	if _, ok := startup.(*pgproto3.StartupMessage); !ok {
		return nil // a cancel request
	}
	if err := send(secure, &pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"}, &pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}, &pgproto3.ReadyForQuery{TxStatus: 'I'}); err != nil {
		return err
	}
	return answer(secure)
}

// answer answers until the client ends the session.
func answer(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 256) // small, as there are thousands
	for {
		var header [5]byte
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint32(header[1:])) - 4
		var err error
		switch header[0] {
		case 'X':
			return nil
		case 'd':
			_, err = io.CopyN(io.Discard, in, size)
		case 'Q':
			text := make([]byte, size)
			if _, err = io.ReadFull(in, text); err == nil && size == 4 {
				err = value(conn, binary.BigEndian.Uint32(text))
			} else if err == nil { // PgBouncer's DISCARD ALL
				err = done(conn)
			}
		default:
			_, err = io.CopyN(io.Discard, in, size)
			if err == nil {
				err = done(conn)
			}
		}
		if err != nil {
			return err
		}
	}
}

// value sends a row with one value.
func value(conn net.Conn, size uint32) error {
	row := binary.BigEndian.AppendUint32([]byte{'D'}, size+10)
	row = binary.BigEndian.AppendUint32(append(row, 0, 1), size)
	if _, err := conn.Write(row); err != nil {
		return err
	}
	zeros := make([]byte, 8192) // as much as PostgreSQL writes at once
	for left := int(size); left > 0; left -= len(zeros) {
		if _, err := conn.Write(zeros[:min(left, len(zeros))]); err != nil {
			return err
		}
	}
	return done(conn)
}

// done ends the answer to a request.
func done(conn net.Conn) error {
	return send(conn, &pgproto3.CommandComplete{CommandTag: []byte("DONE")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

func send(conn net.Conn, messages ...pgproto3.BackendMessage) error {
	var packet []byte
	for _, m := range messages {
		var err error
		if packet, err = m.Encode(packet); err != nil {
			return err
		}
	}
	_, err := conn.Write(packet)
	return err
}
