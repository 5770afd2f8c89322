package pgwire

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/pgtest"
)

// The types of messages of a session, without those of logging in; ! is unknown.
const (
	clientTypes = "QPBDECSHFdcfpX!"
	serverTypes = "TDCEZN123ntsIGHWVAdcS"
)

// TestConformance has the same conversations with PostgreSQL and with PostgreSQL
// through the relay, and compares every byte of the answers.
func TestConformance(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS raw_user", "CREATE ROLE raw_user LOGIN SUPERUSER")
		g, recorded := newGateway(t, server, nil), newGateway(t, server, func() *Observe {
			return NewStatements(StatementsConfig{Values: true, Record: func(*Statement) error { return nil }}).Observe()
		})
		heard := map[byte]bool{}
		compare := func(g *gateway, cfg StartConfig, step int, conversations ...conversation) {
			direct := transcript(t, rawDirect(t, server, cfg), step, conversations)
			through := transcript(t, rawThrough(t, g, cfg), step, conversations)
			for i, c := range conversations {
				if diff := cmp.Diff(direct[i], through[i]); diff != "" {
					t.Errorf("%s, writes of %d bytes (-direct +through):\n%.2000s", c.name, step, diff)
				}
				if n := strings.Count(direct[i], "\nZ "); c.ready > 0 && n != c.ready {
					t.Errorf("%s: %d times ready", c.name, n)
				}
				for line := range strings.Lines(direct[i]) {
					heard[line[0]] = true
				}
			}
		}
		for _, step := range []int{1 << 20, headerSize, 1} { // each write is a TLS record
			compare(g, StartConfig{}, step, conversations...)
		}
		compare(recorded, StartConfig{}, headerSize, conversations...)
		for _, c := range lastWords {
			compare(g, StartConfig{}, 1<<20, c)
		}
		compare(g, StartConfig{Params: []Param{{"replication", "database"}}}, headerSize, replicating...)
		if server.Version >= 18 {
			compare(g, StartConfig{ProtocolMinor: 2}, headerSize, conversations...)
		}
		for _, typ := range []byte(serverTypes) {
			if !heard[typ] {
				t.Errorf("no answer is of type %q", typ)
			}
		}
	})
}

// TestConversationsAreComplete: every type of message is sent.
func TestConversationsAreComplete(t *testing.T) {
	t.Parallel()
	sent := map[byte]bool{}
	for _, c := range slices.Concat(conversations, lastWords, replicating) {
		for r := bytes.NewReader(c.send); r.Len() > 0; {
			typ, _, err := readMessage(r, nil, 1<<20)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			sent[typ] = true
		}
	}
	for _, typ := range []byte(clientTypes) {
		if !sent[typ] {
			t.Errorf("no message is of type %q", typ)
		}
	}
}

func rawDirect(t *testing.T, server *pgtest.Server, cfg StartConfig) net.Conn {
	t.Helper()
	return rawStart(t, DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "raw_user")}, cfg)
}

func rawThrough(t *testing.T, g *gateway, cfg StartConfig) net.Conn {
	t.Helper()
	_, clientTLS := testTLS()
	return rawStart(t, DialConfig{Hosts: []string{g.addr}, TLS: clientTLS}, cfg)
}

func rawStart(t *testing.T, to DialConfig, cfg StartConfig) net.Conn {
	t.Helper()
	conn, err := Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	cfg.User, cfg.Database = "raw_user", "postgres"
	b, err := conn.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if b.Minor != cfg.ProtocolMinor {
		t.Fatalf("protocol 3.%d, want 3.%d", b.Minor, cfg.ProtocolMinor)
	}
	return conn
}

// logPosition is what moves on by itself.
var logPosition = regexp.MustCompile("0/[0-9A-F]{4,}")

// transcript has conversations on conn, in writes of step bytes, and returns the
// messages of each answer, one line each.
func transcript(t *testing.T, conn net.Conn, step int, conversations []conversation) []string {
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
		all = append(all, logPosition.ReplaceAllString(text.String(), "0/0"))
	}
	return all
}

// TestNotifyWhileIdle: what the server says by itself reaches a client that waits
// for nothing.
func TestNotifyWhileIdle(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS raw_user", "CREATE ROLE raw_user LOGIN SUPERUSER")
		var heard []string
		for _, conn := range []net.Conn{rawDirect(t, server, StartConfig{}), rawThrough(t, newGateway(t, server, nil), StartConfig{})} {
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
	server.Exec(t, "DROP ROLE IF EXISTS cut_user", "CREATE ROLE cut_user LOGIN")
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
