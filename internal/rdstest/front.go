package rdstest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postern-db/postern/internal/pgtest"
)

// Front is an RDS server: a real PostgreSQL behind the way RDS logs in.
type Front struct {
	Host   string
	Port   int
	Region string
	// Account that the server belongs to; tokens of others are of no use.
	Account string

	fake   *Fake
	server *pgtest.Server
	super  *pgx.ConnConfig
	tls    *tls.Config

	mu      sync.Mutex // guards refused
	refused []string   // why logins were refused, which RDS tells nobody
}

// Front starts a front of the server on 127.0.0.1, which ends with the fake. The
// server must let roles in through its Unix socket. It gets the role rds_iam, unless
// it is read-only.
func (f *Fake) Front(t testing.TB, server *pgtest.Server, region string) *Front {
	t.Helper()
	cert, err := f.authority.Issue("rds", "127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &Front{
		Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port, Region: region, Account: Account,
		fake: f, server: server, super: server.Config(t, "postgres", "postgres"),
		tls: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}
	f.serving.Go(func() { front.accept(f.ctx, ln) })
	context.AfterFunc(f.ctx, func() { ln.Close() })
	return front
}

// Addr returns host:port.
func (f *Front) Addr() string { return net.JoinHostPort(f.Host, strconv.Itoa(f.Port)) }

// Refused returns why logins were refused so far.
func (f *Front) Refused() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.refused...)
}

func (f *Front) accept(ctx context.Context, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		f.fake.serving.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			_ = f.serve(ctx, conn) // whoever connected sees what went wrong
		})
	}
}

// Codes of start-up packets (PostgreSQL documentation, "Message Formats").
const (
	codeSSL    = 80877103
	codeCancel = 80877102
)

// readPacket reads a start-up packet, its length included.
func readPacket(r io.Reader) ([]byte, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > 10_000 {
		return nil, fmt.Errorf("a start-up packet of %d bytes", n)
	}
	packet := append(head, make([]byte, n-8)...)
	_, err := io.ReadFull(r, packet[8:])
	return packet, err
}

func (f *Front) serve(ctx context.Context, raw net.Conn) error {
	packet, err := readPacket(raw)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(packet[4:]) != codeSSL {
		return refuse(raw, "28000", "no pg_hba.conf entry for host, no encryption")
	}
	if _, err := raw.Write([]byte{'S'}); err != nil {
		return err
	}
	conn := tls.Server(raw, f.tls)
	defer conn.Close()
	if packet, err = readPacket(conn); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(packet[4:]) == codeCancel {
		behind, err := f.dial(ctx)
		if err != nil {
			return err
		}
		defer behind.Close()
		if _, err := behind.Write(packet); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, behind)
		return err
	}
	user := startupUser(packet)
	if why := f.logIn(ctx, conn, user); why != nil {
		f.mu.Lock()
		f.refused = append(f.refused, user+": "+why.Error())
		f.mu.Unlock()
		// What real servers say, whatever the reason is.
		return refuse(conn, "28000", fmt.Sprintf("PAM authentication failed for user %q", user))
	}
	return f.relay(ctx, conn, packet)
}

func startupUser(packet []byte) string {
	words := strings.Split(string(packet[8:]), "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == "user" {
			return words[i+1]
		}
	}
	return ""
}

func refuse(w io.Writer, code, text string) error {
	message, err := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: text}).Encode(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(message)
	return err
}

// logIn asks for the password and checks it as RDS does for IAM. The error is why not.
func (f *Front) logIn(ctx context.Context, conn net.Conn, user string) error {
	ask, err := (&pgproto3.AuthenticationCleartextPassword{}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if head[0] != 'p' || n < 5 || n > 10_000 {
		return fmt.Errorf("not a password: %q", head)
	}
	password := make([]byte, n-4)
	if _, err := io.ReadFull(conn, password); err != nil {
		return err
	}
	member, err := f.iamMember(ctx, user)
	if err != nil {
		return err
	}
	if !member {
		return fmt.Errorf("user %q is not a member of rds_iam", user)
	}
	return f.fake.verifyToken(ctx, strings.TrimSuffix(string(password), "\x00"), f.Addr(), f.Region, f.Account, user)
}

// iamMember reports whether the server would ask the user for a token.
func (f *Front) iamMember(ctx context.Context, user string) (member bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, f.super)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // nothing depends on it
	}()
	err = conn.QueryRow(ctx, `SELECT COALESCE((SELECT pg_has_role(u.oid, g.oid, 'MEMBER') FROM pg_roles u, pg_roles g
		WHERE u.rolname = $1 AND g.rolname = 'rds_iam'), false)`, user).Scan(&member)
	return member, err
}

func (f *Front) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(f.server.SocketDir(), fmt.Sprintf(".s.PGSQL.%d", f.server.Port)))
}

// relay logs in to the real server, which trusts us, and copies both ways.
func (f *Front) relay(ctx context.Context, conn *tls.Conn, packet []byte) error {
	behind, err := f.dial(ctx)
	if err != nil {
		return refuse(conn, "57P03", "the server is down")
	}
	defer behind.Close()
	if _, err := behind.Write(packet); err != nil {
		return err
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(behind, conn) // ends when either side does
		_ = behind.(*net.UnixConn).CloseWrite()
	})
	_, err = io.Copy(conn, behind)
	conn.Close()
	copying.Wait()
	return err
}
