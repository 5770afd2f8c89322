package pgwire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// fakeServer accepts connections and plays script on each. It returns its address.
func fakeServer(t *testing.T, script func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(testTimeout))
			script(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// acceptTLS answers SSLRequest and shakes hands.
func acceptTLS(c net.Conn, cfg *tls.Config) *tls.Conn {
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
		return nil
	}
	_, _ = c.Write([]byte("S"))
	s := tls.Server(c, cfg)
	if s.HandshakeContext(context.Background()) != nil {
		return nil
	}
	return s
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := testTLS()
	stranger := newTestCA(t)
	tests := []struct {
		name   string
		cfg    DialConfig
		script func(net.Conn)
		kind   fault.Kind
		text   string
	}{
		{name: "no TLS configured", script: func(net.Conn) {}, kind: fault.Invalid, text: "without TLS"},
		{name: "N", cfg: DialConfig{TLS: clientTLS}, script: func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 8))
			_, _ = c.Write([]byte("N"))
			_, _ = io.Copy(io.Discard, c)
		}, kind: fault.Unavailable, text: "does not accept TLS"},
		{name: "an error instead of an answer", cfg: DialConfig{TLS: clientTLS}, script: func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 8))
			_, _ = c.Write((&Error{Message: "lies"}).Append(nil))
		}, kind: fault.Unavailable, text: "does not answer like PostgreSQL"},
		{name: "clear text behind S", cfg: DialConfig{TLS: clientTLS}, script: func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 8))
			_, _ = c.Write(append([]byte("S"), msg('R', "\x00\x00\x00\x00")...))
			_, _ = io.Copy(io.Discard, c)
		}, kind: fault.Unavailable, text: "cannot be reached"},
		{name: "silent", cfg: DialConfig{TLS: clientTLS, Timeout: 50 * time.Millisecond}, script: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, kind: fault.Unavailable, text: "in time"},
		{name: "unknown authority", cfg: DialConfig{TLS: &tls.Config{RootCAs: stranger.pool, ServerName: "localhost"}}, script: func(c net.Conn) { acceptTLS(c, serverTLS) }, kind: fault.Unavailable, text: "not signed by an authority"},
		{name: "another name", cfg: DialConfig{TLS: &tls.Config{RootCAs: clientTLS.RootCAs, ServerName: "db.example.com"}}, script: func(c net.Conn) { acceptTLS(c, serverTLS) }, kind: fault.Unavailable, text: "another name"},
		{name: "hangs up", cfg: DialConfig{TLS: clientTLS}, script: func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 8)) }, kind: fault.Unavailable, text: "closes the connection"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := fakeServer(t, tt.script)
			tt.cfg.Hosts = []string{addr}
			_, err := Dial(t.Context(), tt.cfg)
			if fault.KindOf(err) != tt.kind || err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tt.kind, tt.text)
			}
		})
	}
}

func TestDialTriesHostsInOrder(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := testTLS()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	good := fakeServer(t, func(c net.Conn) { acceptTLS(c, serverTLS) })
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{closed.Addr().String(), good}, TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Host() != good {
		t.Errorf("connected to %s, want %s", conn.Host(), good)
	}
}

func TestDialEndsWithContext(t *testing.T) {
	t.Parallel()
	_, clientTLS := testTLS()
	addr := fakeServer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("client gone")
	go cancel(why)
	if _, err := Dial(ctx, DialConfig{Hosts: []string{addr, addr, addr}, TLS: clientTLS}); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestGroupsAreForgotten replaces a server that wants P-256 by one that refuses it.
func TestGroupsAreForgotten(t *testing.T) {
	t.Parallel()
	serverTLS, clientTLS := testTLS()
	cfg := serverTLS.Clone()
	cfg.CurvePreferences = []tls.CurveID{tls.X25519}
	addr := fakeServer(t, func(c net.Conn) { acceptTLS(c, cfg) })
	groups := GroupMemory{nist: map[string]bool{addr: true}}
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{addr}, TLS: clientTLS, Groups: &groups})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if groups.nist[addr] {
		t.Error("a group that the server refuses is still remembered")
	}
}

// startWith runs Start against a server that sends answers after the start-up
// packet, over TLS.
func startWith(t *testing.T, cfg StartConfig, answers ...[]byte) (*Backend, error) {
	t.Helper()
	serverTLS, clientTLS := testTLS()
	addr := fakeServer(t, func(c net.Conn) {
		s := acceptTLS(c, serverTLS)
		if s == nil {
			return
		}
		if _, err := ReadStartup(s); err != nil {
			return
		}
		_, _ = s.Write(bytes.Join(answers, nil))
		_ = s.CloseWrite()
		_, _ = io.Copy(io.Discard, s)
	})
	conn, err := Dial(t.Context(), DialConfig{Hosts: []string{addr}, TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.Start(t.Context(), cfg)
}

var (
	authOKMsg = msg('R', "\x00\x00\x00\x00")
	keyMsg    = msg('K', "\x00\x00\x00\x07abcd")
	readyMsg  = msg('Z', "I")
	scramMsg  = msg('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")
)

func TestStart(t *testing.T) {
	t.Parallel()
	notice := (&Error{Severity: SeverityNotice, Message: "hello"}).AppendNotice(nil)
	got, err := startWith(t, StartConfig{User: "alice", Database: "shop", ProtocolMinor: 2},
		msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00"), authOKMsg, msg('S', "a\x001\x00"), notice, msg('S', "b\x00\x00"), keyMsg, readyMsg)
	if err != nil {
		t.Fatal(err)
	}
	want := &Backend{PID: 7, Secret: []byte("abcd"), Minor: 0, Params: []Param{{"a", "1"}, {"b", ""}}, Notices: notice, TxStatus: 'I'}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v, ok := got.Param("a"); v != "1" || !ok {
		t.Errorf("Param(a) = %q, %v", v, ok)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	password := func(context.Context) (string, error) { return "secret", nil }
	tests := map[string][][]byte{
		"nothing":                      {},
		"ready before authentication":  {readyMsg},
		"parameter before it":          {msg('S', "a\x00b\x00"), authOKMsg, readyMsg},
		"authentication twice":         {authOKMsg, authOKMsg},
		"SCRAM cut short":              {scramMsg, authOKMsg, keyMsg, readyMsg},
		"SCRAM twice":                  {scramMsg, scramMsg},
		"SCRAM continued, not begun":   {msg('R', "\x00\x00\x00\x0br=x,s=AAAA,i=1")},
		"SCRAM final, not begun":       {msg('R', "\x00\x00\x00\x0cv=AAAA")},
		"unknown SASL":                 {msg('R', "\x00\x00\x00\x0aOAUTHBEARER\x00\x00")},
		"MD5":                          {msg('R', "\x00\x00\x00\x05salt")},
		"Kerberos":                     {msg('R', "\x00\x00\x00\x07")},
		"empty request":                {msg('R', "")},
		"giant message":                {header('S', 1<<30)},
		"negative length":              {[]byte("R\xff\xff\xff\xff")},
		"length below 4":               {[]byte("R\x00\x00\x00\x03")},
		"cancel key too short":         {authOKMsg, msg('K', "\x00\x00\x00\x07abc")},
		"cancel key too long":          {authOKMsg, msg('K', "\x00\x00\x00\x07"+strings.Repeat("k", 257))},
		"no process id":                {authOKMsg, msg('K', "\x00")},
		"parameter without terminator": {authOKMsg, msg('S', "a\x00b")},
		"a row":                        {authOKMsg, msg('D', "x")},
		"negotiation upwards":          {msg('v', "\x00\x03\x00\x09\x00\x00\x00\x00")},
		"negotiation of other options": {msg('v', "\x00\x03\x00\x00\x00\x00\x00\x01x\x00")},
		"negotiation to another major": {msg('v', "\x00\x02\x00\x00\x00\x00\x00\x00")},
		"negotiation after it":         {authOKMsg, msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00")},
		"ends before it is ready":      {authOKMsg, keyMsg},
		"endless notices":              {authOKMsg, bytes.Repeat(msg('N', "\x00"), maxStartMessages+1), readyMsg},
		"empty ready":                  {authOKMsg, msg('Z', "")},
	}
	for name, answers := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := startWith(t, StartConfig{User: "alice", Database: "shop", ProtocolMinor: 2, Password: password}, answers...)
			if err == nil || fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.Invalid {
				t.Errorf("got %+v, %v", b, err)
			}
		})
	}
}

func TestStartReturnsTheServersError(t *testing.T) {
	t.Parallel()
	wire := (&Error{Severity: SeverityFatal, Code: "53300", Message: "too many", Extra: []ErrorField{{'R', "InitPostgres"}}}).Append(nil)
	_, err := startWith(t, StartConfig{User: "a"}, wire)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "53300" || pgErr.Routine != "InitPostgres" {
		t.Fatalf("got %v", err)
	}
	if got := Refusal(err).Append(nil); !bytes.Equal(got, wire) {
		t.Errorf("passed on as %q, want %q", got, wire)
	}
}

func TestStartParameters(t *testing.T) {
	t.Parallel()
	got, err := startupPacket(StartConfig{User: "u", Database: "d", Params: []Param{{"b", "2"}, {"a", ""}}, ProtocolMinor: 2})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadStartup(bytes.NewReader(got))
	want := &Startup{Kind: StartupMessage, Minor: 2, Params: []Param{{"user", "u"}, {"database", "d"}, {"b", "2"}, {"a", ""}}}
	if err != nil || !cmp.Equal(want, s) {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, cfg := range []StartConfig{
		{User: "u\x00database\x00other"}, {Params: []Param{{"", "x"}}}, {Params: []Param{{"a\x00b", ""}}}, {User: strings.Repeat("u", maxStartup)},
	} {
		if _, err := startupPacket(cfg); fault.KindOf(err) != fault.Invalid || err == nil {
			t.Errorf("%.40v: %v, want a refusal", cfg, err)
		}
	}
}

func TestClearTextPasswordNeedsTLS(t *testing.T) {
	t.Parallel()
	client, server := tcpPair(t)
	go func() {
		_, _ = ReadStartup(server)
		_, _ = server.Write(msg('R', "\x00\x00\x00\x03"))
	}()
	asked := false
	c := &ServerConn{Conn: client, host: "h"}
	_, err := c.Start(t.Context(), StartConfig{User: "u", Password: func(context.Context) (string, error) { asked = true; return "secret", nil }})
	if err == nil || asked {
		t.Errorf("err %v, asked for the password: %v", err, asked)
	}
}

func TestFinishHasALimit(t *testing.T) {
	t.Parallel()
	client, _ := tlsPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := &ServerConn{Conn: client}
	if err := c.Finish(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Finish: %v, want the deadline", err)
	}
	if _, err := client.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

// TestSCRAMOnly: no password is sent to a server that asks for it in clear text,
// over TLS neither.
func TestSCRAMOnly(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]StartConfig{"password": {SCRAMOnly: true}, "key": {SaltedPassword: []byte("key")}} {
		client, server := tlsPair(t)
		go func() {
			_, _ = ReadStartup(server)
			_, _ = server.Write(msg('R', "\x00\x00\x00\x03"))
		}()
		asked := false
		c := &ServerConn{Conn: client, host: "h", tls: client.(*tls.Conn)}
		cfg.User, cfg.Password = "u", func(context.Context) (string, error) { asked = true; return "secret", nil }
		_, err := c.Start(t.Context(), cfg)
		if fault.KindOf(err) != fault.Unavailable || asked {
			t.Errorf("%s: err %v, asked for the password: %v", name, err, asked)
		}
	}
}

// TestPlainStaysOnThisMachine: what may do without TLS on this machine may not
// when the connection turns out to leave it, whatever the host is called.
func TestPlainStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	elsewhere := func(context.Context, string, string) (net.Conn, error) {
		client, _ := net.Pipe()
		return elsewhereConn{client}, nil
	}
	for _, c := range []struct {
		name string
		cfg  DialConfig
		ok   bool
	}{
		{"nowhere", DialConfig{Hosts: []string{ln.Addr().String()}}, false},
		{"this machine", DialConfig{Hosts: []string{ln.Addr().String()}, Plain: PlainLoopback}, true},
		{"localhost is another machine", DialConfig{Hosts: []string{"localhost:1"}, Plain: PlainLoopback, Dial: elsewhere}, false},
		{"anywhere", DialConfig{Hosts: []string{"localhost:1"}, Plain: PlainAnywhere, Dial: elsewhere}, true},
	} {
		conn, err := Dial(t.Context(), c.cfg)
		if (err == nil) != c.ok || !c.ok && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v", c.name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

type elsewhereConn struct{ net.Conn }

func (elsewhereConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432}
}
