package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

// packet builds a start-up packet.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

func TestReadStartup(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("k", maxCancelKey)
	tests := []struct {
		name string
		sent []byte
		want *Startup
		code string // of the error
	}{
		{name: "SSLRequest", sent: packet(codeSSL, ""), want: &Startup{Kind: SSLRequest}},
		{name: "GSSENCRequest", sent: packet(codeGSSENC, ""), want: &Startup{Kind: GSSENCRequest}},
		{name: "SSLRequest with a body", sent: packet(codeSSL, "x"), code: "08P01"},
		{name: "cancel", sent: packet(codeCancel, "\x00\x00\x01\x00abcd"), want: &Startup{Kind: CancelRequest, PID: 256, Secret: []byte("abcd")}},
		{name: "cancel with the longest key", sent: packet(codeCancel, "\x00\x00\x00\x01"+secret), want: &Startup{Kind: CancelRequest, PID: 1, Secret: []byte(secret)}},
		{name: "cancel with a key too long", sent: packet(codeCancel, "\x00\x00\x00\x01"+secret+"k"), code: "08P01"},
		{name: "cancel with a key too short", sent: packet(codeCancel, "\x00\x00\x00\x01abc"), code: "08P01"},
		{
			name: "3.0", sent: packet(3<<16, "user\x00alice\x00database\x00shop\x00\x00"),
			want: &Startup{Kind: StartupMessage, Params: []Param{{"user", "alice"}, {"database", "shop"}}},
		},
		{
			name: "unknown minor, options, duplicates, empty values in order",
			sent: packet(3<<16|9999, "b\x00\x00a\x001\x00_pq_.x\x00y\x00a\x002\x00\x00"),
			want: &Startup{Kind: StartupMessage, Minor: 9999, Params: []Param{{"b", ""}, {"a", "1"}, {"a", "2"}}, Options: []Param{{"_pq_.x", "y"}}},
		},
		{name: "no parameters", sent: packet(3<<16, "\x00"), want: &Startup{Kind: StartupMessage}},
		{name: "no terminator", sent: packet(3<<16, "user\x00alice\x00"), code: "08P01"},
		{name: "nothing", sent: packet(3<<16, ""), code: "08P01"},
		{name: "value without terminator", sent: packet(3<<16, "user\x00alice"), code: "08P01"},
		{name: "name without value", sent: packet(3<<16, "user\x00"), code: "08P01"},
		{name: "bytes behind the terminator", sent: packet(3<<16, "user\x00alice\x00\x00x\x00y\x00\x00"), code: "08P01"},
		{name: "2.0", sent: packet(2<<16, "\x00"), code: "0A000"},
		{name: "4.0", sent: packet(4<<16, "\x00"), code: "0A000"},
		{name: "largest", sent: packet(3<<16, "a\x00"+strings.Repeat("x", maxStartup-4-4)+"\x00\x00"), want: &Startup{Kind: StartupMessage, Params: []Param{{"a", strings.Repeat("x", maxStartup-8)}}}},
		{name: "too long", sent: packet(3<<16, strings.Repeat("x", maxStartup-3)), code: "08P01"},
		{name: "length below the minimum", sent: []byte{0, 0, 0, 7, 0, 0, 0}, code: "08P01"},
		{name: "negative length", sent: []byte{0xff, 0xff, 0xff, 0xff}, code: "08P01"},
		{name: "another protocol", sent: []byte("GET / HTTP/1.1\r\n"), code: "08P01"},
	}
	for _, tt := range tests {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				rest := bytes.NewReader(append(bytes.Clone(tt.sent), "behind"...))
				got, err := ReadStartup(wrap(rest))
				if tt.code != "" {
					var e *Error
					if !errors.As(err, &e) || e.Code != tt.code || e.Severity != SeverityFatal {
						t.Fatalf("got %v, want SQLSTATE %s", err, tt.code)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if rest.Len() != len("behind") {
					t.Errorf("%d bytes are left behind the packet, want %d", rest.Len(), len("behind"))
				}
			})
		}
	}
}

func TestReadStartupEnds(t *testing.T) {
	t.Parallel()
	whole := packet(3<<16, "user\x00alice\x00\x00")
	for n := range whole {
		_, err := ReadStartup(bytes.NewReader(whole[:n]))
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("after %d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestStartupAccessors(t *testing.T) {
	t.Parallel()
	s := &Startup{Params: []Param{{"user", "eve"}, {"user", "alice"}}}
	if s.User() != "alice" || s.Database() != "alice" {
		t.Errorf("user %q, database %q: the last value counts, the user's name is the default", s.User(), s.Database())
	}
	const no, logical, physical = NoReplication, LogicalReplication, PhysicalReplication
	for value, want := range map[string]Replication{
		"database": logical, "DATABASE": physical, "": physical, "true": physical, "on": physical, "1": physical, "o": physical, "nonsense": physical,
		"false": no, "F": no, "off": no, "OF": no, "no": no, "n": no, "0": no,
	} {
		s := &Startup{Params: []Param{{"replication", value}}}
		if got, _ := s.Replication(); got != want {
			t.Errorf("replication=%q: %v, want %v", value, got, want)
		}
	}
	for _, second := range []string{"off", "on"} {
		both := &Startup{Params: []Param{{"replication", "database"}, {"replication", second}}}
		if got, value := both.Replication(); got != logical || value != "database" {
			t.Errorf("a second value hides the first: %v, %q", got, value)
		}
	}
}

func TestNegotiation(t *testing.T) {
	t.Parallel()
	for _, minor := range []uint16{0, 1, 2} {
		s := &Startup{Minor: minor}
		if got := s.AppendNegotiation(nil); len(got) != 0 || s.Negotiated() != minor {
			t.Errorf("3.%d: answer %q, negotiated %d", minor, got, s.Negotiated())
		}
	}
	s := &Startup{Minor: 9999, Options: []Param{{"_pq_.a", "1"}, {"_pq_.b", ""}}}
	got := s.AppendNegotiation([]byte("x"))[1:]
	var m pgproto3.NegotiateProtocolVersion
	if err := m.Decode(got[headerSize:]); err != nil {
		t.Fatal(err)
	}
	if m.NewestMinorProtocol != 3<<16|2 || !cmp.Equal(m.UnrecognizedOptions, []string{"_pq_.a", "_pq_.b"}) || s.Negotiated() != 2 {
		t.Errorf("got %+v, negotiated %d", m, s.Negotiated())
	}
	old := &Startup{Options: []Param{{"_pq_.a", "1"}}}
	if got := old.AppendNegotiation(nil); len(got) == 0 || binary.BigEndian.Uint32(got[headerSize:]) != 3<<16 {
		t.Errorf("3.0 with an option: %q", got)
	}
}

func TestWelcome(t *testing.T) {
	t.Parallel()
	b := &Backend{PID: 42, Secret: []byte("server's"), Params: []Param{{"a", "1"}}, Notices: msg('N', "\x00"), TxStatus: 'I'}
	want := bytes.Join([][]byte{
		msg('R', "\x00\x00\x00\x00"), msg('S', "a\x001\x00"), msg('N', "\x00"), msg('K', "\x00\x00\x00\x2aours"), msg('Z', "I"),
	}, nil)
	if got := AppendWelcome(nil, b, []byte("ours")); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
