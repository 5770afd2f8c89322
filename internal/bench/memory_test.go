package bench

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// farService is a service with one database behind the silent server at ADDR,
// whose certificate CA has signed.
const farService = `db_service:
  enabled: "yes"
  databases:
  - {name: example, protocol: postgres, uri: "%s", tls: {ca_cert_file: %s}}
`

// door is a way to connect to the silent server: the gateway or PgBouncer.
type door struct {
	name string
	pid  int
	cfg  *pgx.ConnConfig
}

// startDoors starts the silent server, and the gateway and PgBouncer before it.
func startDoors(b *testing.B) []*door {
	b.Helper()
	authority, err := pgtest.NewAuthority("benchmark")
	if err != nil {
		b.Fatal(err)
	}
	server := startSilentServer(b, authority)
	dir := clientFiles(b, authority)
	writeFile(b, filepath.Join(dir, "root.crt"), authority.PEM())
	gateway := gatewayDoor(b, fmt.Sprintf(farService, server.Addr(), filepath.Join(dir, "root.crt")))
	bouncer := startPgBouncer(b, server.Addr().String(), dir)
	cert, err := authority.Issue(loginUser)
	if err != nil {
		b.Fatal(err)
	}
	cfg := gateway.cfg.Copy()
	cfg.Host, cfg.Port = "127.0.0.1", bouncer.port(b)
	cfg.TLSConfig = &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return []*door{gateway, {name: bouncer.name, pid: bouncer.pid, cfg: cfg}}
}

func gatewayDoor(b *testing.B, service string) *door {
	b.Helper()
	env := testenv.Start(b, testenv.Options{Process: true, NoServer: true, Service: service})
	env.Apply(b, fmt.Sprintf(`{kind: role, version: v7, metadata: {name: crowd}, spec: {
		options: {create_db_user_mode: "off"}, allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: [%s]}}}`, loginUser))
	env.AddUser(b, "crowd", []string{"crowd"}, nil)
	cfg := env.As(b, "crowd").Direct(b, identity.Route{Database: testenv.Database, DatabaseUser: loginUser, DatabaseName: "postgres"})
	return &door{name: "Postern", pid: env.PID(), cfg: cfg}
}

// connect opens a session and returns its connection, with nothing read ahead. A
// pgx connection would need more memory than what is measured.
func (d *door) connect(ctx context.Context) (net.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", d.cfg.Host, d.cfg.Port))
	if err != nil {
		return nil, err
	}
	if _, err := raw.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(raw, make([]byte, 1)); err != nil {
		return nil, err
	}
	conn := tls.Client(raw, d.cfg.TLSConfig)
	startup, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": loginUser, "database": "postgres"}}).Encode(nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(startup); err != nil {
		return nil, err
	}
	if err := awaitReady(conn); err != nil {
		return nil, fmt.Errorf("connect through %s: %w", d.name, err)
	}
	return conn, nil
}

// awaitReady reads up to ReadyForQuery.
func awaitReady(conn net.Conn) error {
	for {
		var header [5]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return err
		}
		body := int64(binary.BigEndian.Uint32(header[1:])) - 4
		if header[0] == 'E' {
			text, _ := io.ReadAll(io.LimitReader(conn, body))
			return fmt.Errorf("refused: %q", text)
		}
		if _, err := io.CopyN(io.Discard, conn, body); err != nil {
			return err
		}
		if header[0] == 'Z' {
			return nil
		}
	}
}

// goodbye ends a session.
func goodbye(conn net.Conn) {
	_, _ = conn.Write([]byte{'X', 0, 0, 0, 4})
	conn.Close()
}

// query has the server answer with one value.
func query(conn net.Conn, size uint32) error {
	if _, err := conn.Write(binary.BigEndian.AppendUint32([]byte{'Q', 0, 0, 0, 8}, size)); err != nil {
		return err
	}
	return awaitReady(conn)
}

// sessions opens n sessions, a few at a time, has each answer with one value and
// hands it to then.
func (d *door) sessions(b *testing.B, n int, size uint32, then func(i int, conn net.Conn)) {
	b.Helper()
	working, ctx := errgroup.WithContext(b.Context())
	working.SetLimit(4)
	for i := range n {
		working.Go(func() error {
			conn, err := d.connect(ctx)
			if err != nil {
				return err
			}
			if err := query(conn, size); err != nil {
				return err
			}
			then(i, conn)
			return nil
		})
	}
	if err := working.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkIdleSessions measures by how much the resident memory of each door
// has grown since its start, for each session that has done something and waits.
func BenchmarkIdleSessions(b *testing.B) {
	sessions := setting(b, "SESSIONS", 1000)
	doors := startDoors(b)
	for b.Loop() {
		for _, d := range doors {
			before := memory(b, d.pid, "VmRSS")
			conns := make([]net.Conn, sessions)
			d.sessions(b, sessions, 100_000, func(i int, conn net.Conn) { conns[i] = conn })
			comeToRest()
			b.ReportMetric(float64(memory(b, d.pid, "VmRSS")-before)/float64(sessions), d.name+"-KiB/session")
			for _, conn := range conns {
				goodbye(conn)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkComeAndGo measures by how much the resident memory of the gateway has grown
// after many sessions, one after the other, since the first tenth of them.
func BenchmarkComeAndGo(b *testing.B) {
	cycles := setting(b, "CYCLES", 5000)
	d := startDoors(b)[0]
	for b.Loop() {
		come := func(n int) int {
			d.sessions(b, n, 1000, func(_ int, conn net.Conn) { goodbye(conn) })
			comeToRest()
			return memory(b, d.pid, "VmRSS")
		}
		before := come(cycles / 10)
		b.ReportMetric(float64(come(cycles-cycles/10)-before)/1024, "MiB-grown")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHugeValue measures by how much the most that the gateway has ever held
// grows when one value goes out and one in.
func BenchmarkHugeValue(b *testing.B) {
	size := uint32(setting(b, "VALUE_MB", 500)) * 1_000_000 //nolint:gosec // a size that PostgreSQL itself allows
	d := startDoors(b)[0]
	for b.Loop() {
		conn, err := d.connect(b.Context())
		if err == nil {
			err = query(conn, 1000)
		}
		if err != nil {
			b.Fatal(err)
		}
		forgetPeak(b, d.pid)
		before := memory(b, d.pid, "VmHWM")
		if err := query(conn, size); err != nil {
			b.Fatal(err)
		}
		out := memory(b, d.pid, "VmHWM")
		copyIn(b, conn, size)
		b.ReportMetric(float64(out-before)/1024, "out-MiB-grown")
		b.ReportMetric(float64(memory(b, d.pid, "VmHWM")-before)/1024, "in-MiB-grown")
		goodbye(conn)
	}
	b.ReportMetric(0, "ns/op")
}

// copyIn sends one CopyData message, and then CopyDone.
func copyIn(b *testing.B, conn net.Conn, size uint32) {
	b.Helper()
	packet := binary.BigEndian.AppendUint32([]byte{'d'}, size+4)
	for left := int(size); left > 0; left -= 64 << 10 {
		packet = append(packet, make([]byte, min(left, 64<<10))...)
		if _, err := conn.Write(packet); err != nil {
			b.Fatal(err)
		}
		packet = packet[:0]
	}
	if _, err := conn.Write([]byte{'c', 0, 0, 0, 4}); err != nil {
		b.Fatal(err)
	}
	if err := awaitReady(conn); err != nil {
		b.Fatal(err)
	}
}
