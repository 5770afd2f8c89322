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

	fake *Fake
	tls  *tls.Config

	mu       sync.Mutex // guards the fields below
	server   *pgtest.Server
	super    *pgx.ConnConfig
	refused  []string // why logins were refused, which RDS tells nobody
	admitted []string // users that were let in
}

// HBA is what a server behind a front says in pg_hba.conf, as RDS does: who is not a
// member of rds_iam is asked for a password.
const HBA = "hostnossl all all 127.0.0.1/32 md5"

// Front starts a front of the server on 127.0.0.1, which ends with the fake. The
// server must let roles in through its Unix socket, and have [HBA].
func (f *Fake) Front(t testing.TB, server *pgtest.Server, region string) *Front {
	t.Helper()
	ln, err := listen(t.Context(), "127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	return f.front(t, server, region, ln)
}

// Endpoints starts a front of each server, as Aurora has its endpoints: one port,
// and a host of its own for each. These are 127.0.0.2 and so on, which Linux has.
func (f *Fake) Endpoints(t testing.TB, region string, servers ...*pgtest.Server) []*Front {
	t.Helper()
	listeners, err := listenTogether(t.Context(), len(servers))
	if err != nil {
		t.Fatal(err)
	}
	fronts := make([]*Front, len(servers))
	for i, server := range servers {
		fronts[i] = f.front(t, server, region, listeners[i])
	}
	return fronts
}

func (f *Fake) front(t testing.TB, server *pgtest.Server, region string, ln net.Listener) *Front {
	t.Helper()
	at := ln.Addr().(*net.TCPAddr)
	cert, err := f.authority.Issue("rds", at.IP.String(), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	front := &Front{
		Host: at.IP.String(), Port: at.Port, Region: region, Account: Account,
		fake: f, tls: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}
	front.Lead(t, server)
	f.serving.Go(func() { front.accept(f.ctx, ln) })
	context.AfterFunc(f.ctx, func() { ln.Close() })
	return front
}

func listen(ctx context.Context, host string, port int) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

// listenTogether listens on n addresses with one port that is free on all of them.
func listenTogether(ctx context.Context, n int) (all []net.Listener, err error) {
	for range 20 {
		port := 0
		for all = nil; len(all) < n; {
			var ln net.Listener
			if ln, err = listen(ctx, fmt.Sprintf("127.0.0.%d", 2+len(all)), port); err != nil {
				break
			}
			all, port = append(all, ln), ln.Addr().(*net.TCPAddr).Port
		}
		if err == nil {
			return all, nil
		}
		for _, ln := range all {
			ln.Close()
		}
	}
	return nil, err
}

// Lead makes connections to come lead to another server, as after a failover.
func (f *Front) Lead(t testing.TB, to *pgtest.Server) {
	t.Helper()
	super := to.Config(t, "postgres", "postgres")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server, f.super = to, super
}

// Addr returns host:port.
func (f *Front) Addr() string { return net.JoinHostPort(f.Host, strconv.Itoa(f.Port)) }

// Refused returns why logins were refused so far.
func (f *Front) Refused() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.refused...)
}

// Admitted returns the users that were let in so far, one entry for each login.
func (f *Front) Admitted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.admitted...)
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
	member, err := f.iamMember(ctx, user)
	if err != nil {
		return refuse(conn, "57P03", "the server is down")
	}
	if !member {
		f.note(&f.refused, fmt.Sprintf("%s: user %[1]q is not a member of rds_iam", user))
		return f.relay(ctx, conn, packet, f.dialPassword)
	}
	if why := f.logIn(ctx, conn, user); why != nil {
		f.note(&f.refused, user+": "+why.Error())
		// What real servers say, whatever the reason is.
		return refuse(conn, "28000", fmt.Sprintf("PAM authentication failed for user %q", user))
	}
	f.note(&f.admitted, user)
	return f.relay(ctx, conn, packet, f.dial)
}

func (f *Front) note(list *[]string, entry string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*list = append(*list, entry)
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
	return f.fake.verifyToken(ctx, strings.TrimSuffix(string(password), "\x00"), f.Addr(), f.Region, f.Account, user)
}

// iamMember reports whether the server would ask the user for a token.
func (f *Front) iamMember(ctx context.Context, user string) (member bool, err error) {
	f.mu.Lock()
	super := f.super
	f.mu.Unlock()
	conn, err := pgx.ConnectConfig(ctx, super)
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

// dial connects to the real server where that trusts us.
func (f *Front) dial(ctx context.Context) (net.Conn, error) {
	server := f.leader()
	return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(server.SocketDir(), fmt.Sprintf(".s.PGSQL.%d", server.Port)))
}

// dialPassword connects to the real server where that asks for a password.
func (f *Front) dialPassword(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", f.leader().Addr())
}

func (f *Front) leader() *pgtest.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.server
}

// relay hands a login on to the real server, and copies both ways.
func (f *Front) relay(ctx context.Context, conn *tls.Conn, packet []byte, dial func(context.Context) (net.Conn, error)) error {
	behind, err := dial(ctx)
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
		_ = behind.(interface{ CloseWrite() error }).CloseWrite()
	})
	_, err = io.Copy(conn, behind)
	conn.Close()
	copying.Wait()
	return err
}
