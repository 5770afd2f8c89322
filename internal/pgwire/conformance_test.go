package pgwire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/pgtest"
)

// conversations are raw client messages. Each is sent at once, and the answers are
// read up to as many ReadyForQuery as its number says, or to the end for -1.
var conversations = []struct {
	name  string
	send  []byte
	ready int
}{
	{"simple", msg('Q', "SELECT 1, NULL, 'x'; SELECT 2\x00"), 1},
	{"empty", msg('Q', "\x00"), 1},
	{"error", msg('Q', "SELECT nothing\x00"), 1},
	{"notice", msg('Q', "DROP TABLE IF EXISTS nothing_there\x00"), 1},
	{"pipeline with an error in the middle", bytes.Join([][]byte{
		run("SELECT 1"), msg('S', ""), run("SELECT 1"), run("SELECT nothing"), run("SELECT 3"), msg('S', ""), run("SELECT 4"), msg('S', ""),
	}, nil), 3},
	{"portal with a row limit", bytes.Join([][]byte{
		msg('P', bodyParse("", "SELECT generate_series(1, 5)")), msg('B', bodyBind("p", "", false)), msg('D', "Pp\x00"),
		msg('E', bodyExecute("p", 2)), msg('E', bodyExecute("p", 2)), msg('E', bodyExecute("p", 2)), msg('C', "Pp\x00"), msg('S', ""),
	}, nil), 1},
	{"describe, flush, close", bytes.Join([][]byte{
		msg('P', bodyParse("s", "SELECT $1::int + 1")), msg('D', "Ss\x00"), msg('H', ""), msg('B', bodyBind("", "s", false, "41")), msg('E', bodyExecute("", 0)), msg('C', "Ss\x00"), msg('S', ""),
	}, nil), 1},
	{"COPY in", bytes.Join([][]byte{msg('Q', "CREATE TEMP TABLE c (n int); COPY c FROM STDIN\x00"), msg('d', "1\n2"), msg('d', "\n3\n"), msg('c', ""), msg('Q', "SELECT sum(n) FROM c\x00")}, nil), 2},
	{"COPY in, aborted", bytes.Join([][]byte{msg('Q', "COPY c FROM STDIN\x00"), msg('d', "1\n"), msg('f', "changed my mind\x00")}, nil), 1},
	{"COPY in, bad data", bytes.Join([][]byte{msg('Q', "COPY c FROM STDIN\x00"), msg('d', "one\n"), msg('d', "2\n"), msg('c', "")}, nil), 1},
	{"COPY out", msg('Q', "COPY (SELECT generate_series(1, 2000)) TO STDOUT\x00"), 1},
	{"COPY in by the extended protocol", bytes.Join([][]byte{
		msg('P', bodyParse("", "COPY c FROM STDIN")), msg('B', bodyBind("", "", false)), msg('E', bodyExecute("", 0)), msg('d', "4\n"), msg('c', ""), msg('S', ""),
	}, nil), 1},
	{"COPY out by the extended protocol", append(run("COPY c TO STDOUT"), msg('S', "")...), 1},
	{"settings that are reported", msg('Q', "SET application_name = 'mine'; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone\x00"), 1},
	{"no data, no parameters", bytes.Join([][]byte{msg('P', bodyParse("s", "SET work_mem = 4096")), msg('D', "Ss\x00"), msg('B', bodyBind("", "s", false)), msg('D', "P\x00"), msg('S', "")}, nil), 1},
	{"empty by the extended protocol", append(run(""), msg('S', "")...), 1},
	{"names that do not exist", bytes.Join([][]byte{
		msg('C', "Snone\x00"), msg('C', "Pnone\x00"), msg('S', ""), msg('D', "Snone\x00"), msg('S', ""), msg('B', bodyBind("", "none", false)), msg('S', ""), msg('E', bodyExecute("none", 0)), msg('S', ""),
	}, nil), 4},
	{"a failed transaction", append(msg('Q', "BEGIN; SELECT nothing\x00"), append(msg('Q', "SELECT 1\x00"), msg('Q', "ROLLBACK\x00")...)...), 3},
	{"COPY messages without a COPY", bytes.Join([][]byte{msg('d', "1\n"), msg('c', ""), msg('f', "no\x00"), msg('Q', "SELECT 1\x00")}, nil), 1},
	{"function call", functionCall(177, int4(40), int4(2)), 1}, // int4pl
	{"function call of nothing", functionCall(1), 1},
	{"large object by function calls", bytes.Join([][]byte{
		msg('Q', "BEGIN\x00"), functionCall(715, int4(4712)) /* lo_create */, functionCall(952, int4(4712), int4(0x60000)), /* lo_open, to read and write */
		functionCall(955, int4(0), []byte("a large object")) /* lowrite */, functionCall(956, int4(0), int4(2), int4(0)), /* lo_lseek */
		functionCall(954, int4(0), int4(100)) /* loread */, functionCall(953, int4(0)) /* lo_close */, msg('Q', "ROLLBACK\x00"),
	}, nil), 8},
	{"LISTEN and NOTIFY", append(msg('Q', "LISTEN here\x00"), msg('Q', "SELECT pg_notify('here', 'x') IS NULL\x00")...), 2},
	{"large object", msg('Q', "BEGIN; SELECT lo_from_bytea(4711, repeat('x', 50000)::bytea); SELECT lo_get(4711); ROLLBACK\x00"), 1},
	{"large row", msg('Q', "SELECT repeat('y', 3000000)\x00"), 1},
	{"unknown message", append(msg('!', "what"), msg('Q', "SELECT 1\x00")...), -1},
}

func run(sql string) []byte {
	return bytes.Join([][]byte{msg('P', bodyParse("", sql)), msg('B', bodyBind("", "", false)), msg('D', "P\x00"), msg('E', bodyExecute("", 0))}, nil)
}

// functionCall calls a function, all in binary.
func functionCall(oid uint32, args ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, oid)
	b = append(b, 0, 1, 0, 1, 0, byte(len(args)))
	for _, arg := range args {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(arg))), arg...)
	}
	return msg('F', string(append(b, 0, 1)))
}

func int4(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// TestConformance has the same conversations with PostgreSQL and with PostgreSQL
// through the relay, and compares every byte of the answers.
func TestConformance(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS raw_user", "CREATE ROLE raw_user LOGIN SUPERUSER")
		g := newGateway(t, server, nil)
		for _, step := range []int{1 << 20, headerSize, 1} { // each write is a TLS record
			direct := transcript(t, rawDirect(t, server), step)
			through := transcript(t, rawThrough(t, g), step)
			for i, c := range conversations {
				if diff := cmp.Diff(direct[i], through[i]); diff != "" {
					t.Errorf("%s, writes of %d bytes (-direct +through):\n%.2000s", c.name, step, diff)
				}
				if n := strings.Count(direct[i], "\nZ "); c.ready > 0 && n != c.ready {
					t.Errorf("%s: %d times ready", c.name, n)
				}
			}
		}
	})
}

func rawDirect(t *testing.T, server *pgtest.Server) net.Conn {
	t.Helper()
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "raw_user")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Start(t.Context(), StartConfig{User: "raw_user", Database: "postgres"}); err != nil {
		t.Fatal(err)
	}
	return conn
}

func rawThrough(t *testing.T, g *gateway) net.Conn {
	t.Helper()
	_, clientTLS := testTLS()
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{g.addr}, TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Start(t.Context(), StartConfig{User: "raw_user", Database: "postgres"}); err != nil {
		t.Fatal(err)
	}
	return conn
}

// transcript has all conversations on conn, in writes of step bytes, and returns
// the messages of each answer, one line each.
func transcript(t *testing.T, conn net.Conn, step int) []string {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(testTimeout))
	var all []string
	for _, c := range conversations {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for rest := c.send; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if _, err := conn.Write(rest[:min(step, len(rest))]); err != nil {
					return
				}
			}
		}()
		var text strings.Builder
		for ready := 0; ready != c.ready; {
			typ, body, err := readMessage(conn, nil, 1<<26)
			if err != nil {
				text.WriteString("end\n")
				break
			}
			if typ == 'A' {
				clear(body[:4]) // the process id
			}
			if len(body) > 4096 {
				fmt.Fprintf(&text, "\n%c %d bytes %x", typ, len(body), sha256.Sum256(body))
				continue
			}
			fmt.Fprintf(&text, "\n%c %q", typ, body)
			if typ == 'Z' {
				ready++
			}
		}
		<-sent
		all = append(all, text.String())
	}
	return all
}

// TestNotifyWhileIdle: what the server says by itself reaches a client that waits
// for nothing.
func TestNotifyWhileIdle(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS raw_user", "CREATE ROLE raw_user LOGIN SUPERUSER")
		var heard []string
		for _, conn := range []net.Conn{rawDirect(t, server), rawThrough(t, newGateway(t, server, nil))} {
			_ = conn.SetDeadline(time.Now().Add(testTimeout))
			if _, err := conn.Write(msg('Q', "LISTEN idle_here\x00")); err != nil {
				t.Fatal(err)
			}
			for typ := byte(0); typ != 'Z'; {
				var err error
				if typ, _, err = readMessage(conn, nil, 1<<16); err != nil {
					t.Fatal(err)
				}
			}
			server.Exec(t, "NOTIFY idle_here, 'hello'")
			typ, body, err := readMessage(conn, nil, 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, fmt.Sprintf("%c %q", typ, body[4:])) // behind the process id
			conn.Close()
		}
		if heard[0] != heard[1] || heard[0][0] != 'A' {
			t.Errorf("directly %s, through the gateway %s", heard[0], heard[1])
		}
	})
}

// TestFinishAfterClientWasCut checks that the server's process is seen to end
// although the relay ended without waiting for it.
func TestFinishAfterClientWasCut(t *testing.T) {
	server := pgtest.Shared(t, pgtest.Newest(t))
	server.Exec(t, "CREATE ROLE cut_user LOGIN")
	g := newGateway(t, server, nil) // reports an error of Finish
	_, clientTLS := testTLS()
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{g.addr}, TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Start(t.Context(), StartConfig{User: "cut_user", Database: "postgres"}); err != nil {
		t.Fatal(err)
	}
	raw := tcpBelow(t, conn.Conn)
	_ = raw.SetLinger(0)
	raw.Close()
	waitUntil(t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.results) == 1
	})
	var n int
	if err := server.Superuser(t, "postgres").QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'cut_user'").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d processes are left, %v", n, err)
	}
}
