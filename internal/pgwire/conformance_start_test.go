package pgwire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/pgtest"
)

// starts are the bodies of start-up packets of raw_user. What we refuse ourselves is
// compared by SQLSTATE, everything else byte for byte.
var starts = []struct {
	name    string
	version uint32
	params  string // behind the user
	ours    bool   // refused by us
	newest  bool   // servers before 18 do not know 3.2
}{
	{name: "3.0", version: 3 << 16},
	{name: "settings", version: 3 << 16, params: "application_name\x00mine\x00options\x00-c statement_timeout=1234 -c DateStyle=German\x00client_encoding\x00LATIN1\x00"},
	{name: "of duplicates the last", version: 3 << 16, params: "application_name\x00one\x00application_name\x00two\x00database\x00template1\x00database\x00postgres\x00"},
	{name: "notices", version: 3 << 16, params: "client_min_messages\x00debug1\x00session_preload_libraries\x00\x00"},
	{name: "database that does not exist", version: 3 << 16, params: "database\x00nowhere\x00"},
	{name: "setting that does not exist", version: 3 << 16, params: "nonsense\x001\x00"},
	{name: "wrong value", version: 3 << 16, params: "options\x00-c work_mem=much\x00"},
	{name: "option of the protocol", version: 3 << 16, params: "_pq_.future\x001\x00_pq_.other\x00\x00"},
	{name: "3.2", version: 3<<16 | 2, newest: true},
	{name: "3.2 and an option", version: 3<<16 | 2, params: "_pq_.future\x001\x00", newest: true},
	{name: "3.9999 and an option", version: 3<<16 | 9999, params: "_pq_.future\x001\x00", newest: true},
	{name: "4.0", version: 4 << 16, ours: true},
	{name: "10,000 bytes", version: 3 << 16, params: "application_name\x00" + strings.Repeat("x", 9960-len("application_name")) + "\x00"},
}

// TestConformanceOfStartUp logs in to PostgreSQL and through the gateway with the
// same packets and compares the answers, but for process ids and cancel keys, of
// which the length counts. Two things are ours: a client that gets no session is not
// told first that it is authenticated, and notices come behind the parameters.
func TestConformanceOfStartUp(t *testing.T) {
	onEachVersion(t, func(t *testing.T, server *pgtest.Server) {
		server.Exec(t, "DROP ROLE IF EXISTS raw_user", "CREATE ROLE raw_user LOGIN SUPERUSER")
		g := newGateway(t, server, nil)
		_, clientTLS := testTLS()
		for _, c := range starts {
			if c.newest && server.Version < 18 {
				continue
			}
			answer := func(to DialConfig) string {
				conn, err := Dial(t.Context(), to)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(testTimeout))
				if _, err := conn.Write(packet(c.version, "user\x00raw_user\x00database\x00postgres\x00"+c.params+"\x00")); err != nil {
					t.Fatal(err)
				}
				return greeting(conn, c.ours)
			}
			direct := answer(DialConfig{Hosts: []string{server.Addr()}, TLS: server.ClientTLS(t, "raw_user")})
			through := answer(DialConfig{Hosts: []string{g.addr}, TLS: clientTLS})
			if diff := cmp.Diff(direct, through); diff != "" {
				t.Errorf("%s (-direct +through):\n%s", c.name, diff)
			}
		}
	})
}

// greeting returns the answers to a start-up packet, one line each, notices last.
func greeting(conn *ServerConn, ours bool) string {
	var text, notices strings.Builder
	for {
		typ, body, err := readMessage(conn, nil, 1<<16)
		switch {
		case err != nil:
			return text.String() + "end"
		case typ == 'K':
			fmt.Fprintf(&text, "K of %d bytes\n", len(body))
		case typ == 'E' && ours:
			e := ParseError(body)
			fmt.Fprintf(&text, "E %s %s\n", e.Severity, e.Code)
		case typ == 'E':
			text.Reset()
			fmt.Fprintf(&text, "E %q\n", body)
		case typ == 'N':
			fmt.Fprintf(&notices, "N %q\n", body)
		default:
			fmt.Fprintf(&text, "%c %q\n", typ, body)
		}
		if typ == 'Z' {
			return text.String() + notices.String()
		}
	}
}
