package pgwire

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// Request codes that stand where a StartupMessage has its protocol version.
// https://www.postgresql.org/docs/18/protocol-message-formats.html
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSENC = 80877104

	protocolMajor = 3
	// newestMinor is the newest minor version we speak. 3.2 brought long cancel
	// keys; 3.1 was never used.
	newestMinor = 2

	// maxStartup is PostgreSQL's MAX_STARTUP_PACKET_LENGTH: the size of the
	// packet without its length word.
	maxStartup = 10000
	// maxCancelKey is the longest cancel key that protocol 3.2 permits.
	maxCancelKey = 256
)

// StartupKind tells what a client asked for with its first packet.
type StartupKind int

// The kinds of first packets.
const (
	StartupMessage StartupKind = iota + 1
	SSLRequest
	GSSENCRequest
	CancelRequest
)

func (k StartupKind) String() string {
	switch k {
	case StartupMessage:
		return "StartupMessage"
	case SSLRequest:
		return "SSLRequest"
	case GSSENCRequest:
		return "GSSENCRequest"
	case CancelRequest:
		return "CancelRequest"
	}
	return fmt.Sprintf("StartupKind(%d)", int(k))
}

// Startup is the first packet of a connection.
type Startup struct {
	Kind StartupKind

	// Minor is the minor protocol version that the client asked for; the major
	// one is always 3. See [Startup.Negotiated].
	Minor uint16
	// Params are the parameters in the order sent, duplicates included, without
	// the protocol options.
	Params []Param
	// Options are the parameters whose names begin with "_pq_.": requests for
	// protocol extensions, of which we know none.
	Options []Param

	// PID and Secret are what a CancelRequest names.
	PID    uint32
	Secret []byte
}

// ReadStartup reads one start-up packet from r: exactly its bytes and nothing
// behind them, so that the caller may start TLS on the same connection. After
// SSLRequest and GSSENCRequest it is called again.
//
// A deadline is the caller's to set. An end before the first byte is io.EOF.
// What is not a start-up packet gives an [*Error] with the SQLSTATE that
// PostgreSQL uses.
func ReadStartup(r io.Reader) (*Startup, error) {
	var head [8]byte
	// The length is judged before anything else is read: whoever speaks another
	// protocol must not make us wait for bytes that will never come.
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:4])) - 4
	if size < 4 || size > maxStartup {
		return nil, malformed("invalid length of startup packet")
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read startup packet: %w", noEOF(err))
	}
	return parseStartup(body)
}

// parseStartup decodes a packet without its length word.
func parseStartup(body []byte) (*Startup, error) {
	code, rest := binary.BigEndian.Uint32(body), body[4:]
	switch code {
	case codeSSL, codeGSSENC:
		if len(rest) != 0 {
			return nil, malformed("invalid length of encryption request")
		}
		if code == codeSSL {
			return &Startup{Kind: SSLRequest}, nil
		}
		return &Startup{Kind: GSSENCRequest}, nil
	case codeCancel:
		if len(rest) < 4+4 || len(rest) > 4+maxCancelKey {
			return nil, malformed("invalid length of query cancel packet")
		}
		return &Startup{Kind: CancelRequest, PID: binary.BigEndian.Uint32(rest), Secret: rest[4:]}, nil
	}
	major, minor := uint16(code>>16), uint16(code)
	if major != protocolMajor {
		return nil, &Error{
			Severity: SeverityFatal,
			Code:     "0A000",
			Message:  fmt.Sprintf("unsupported frontend protocol %d.%d: server supports %d.0 to %d.%d", major, minor, protocolMajor, protocolMajor, newestMinor),
		}
	}
	s := &Startup{Kind: StartupMessage, Minor: minor}
	return s, s.parseParams(rest)
}

// parseParams reads pairs of names and values up to the empty name, which must
// be the last byte of the packet.
func (s *Startup) parseParams(rest []byte) error {
	c := cursor{rest: rest}
	for {
		name := string(c.cstring())
		if name == "" && !c.short && len(c.rest) == 0 {
			return nil
		}
		value := string(c.cstring())
		if name == "" || c.short {
			return malformed("invalid startup packet layout: expected terminator as last byte")
		}
		if strings.HasPrefix(name, "_pq_.") {
			s.Options = append(s.Options, Param{name, value})
		} else {
			s.Params = append(s.Params, Param{name, value})
		}
	}
}

// Get returns the value of a parameter. Of duplicates the last counts, as in
// PostgreSQL.
func (s *Startup) Get(name string) (value string, ok bool) {
	for _, p := range s.Params {
		if p.Name == name {
			value, ok = p.Value, true
		}
	}
	return value, ok
}

// User returns the database user asked for; it is empty when none was sent.
func (s *Startup) User() string {
	user, _ := s.Get("user")
	return user
}

// Database returns the dbname asked for, which is the user's name by default.
func (s *Startup) Database() string {
	if dbname, _ := s.Get("database"); dbname != "" {
		return dbname
	}
	return s.User()
}

// Replication is what a replication connection is for.
type Replication int

// The kinds of replication connections.
const (
	NoReplication       Replication = iota
	LogicalReplication              // of one logical database, in which it also takes SQL
	PhysicalReplication             // of the whole server, whatever dbname was sent
)

// Replication returns which replication connection is asked for, and the value of
// the parameter that asks for it. A value that PostgreSQL would not take as false
// counts as a yes, and so does one of several.
func (s *Startup) Replication() (kind Replication, value string) {
	for _, p := range s.Params {
		switch {
		case p.Name != "replication" || falseWord(p.Value):
		case p.Value == "database": // in this spelling only
			return LogicalReplication, p.Value
		default:
			kind, value = PhysicalReplication, p.Value
		}
	}
	return kind, value
}

// falseWord follows PostgreSQL's parse_bool: "0", and unique prefixes of
// "false", "no" and "off" in any case.
func falseWord(s string) bool {
	s = strings.ToLower(s)
	return s == "0" || s == "of" || s == "off" ||
		s != "" && (strings.HasPrefix("false", s) || strings.HasPrefix("no", s))
}

// Negotiated returns the minor protocol version that both sides will speak.
func (s *Startup) Negotiated() uint16 { return min(s.Minor, newestMinor) }

// AppendNegotiation appends the NegotiateProtocolVersion message that a client
// needs which asked for a newer minor version or for protocol options, and
// nothing for others. It goes before any authentication message.
func (s *Startup) AppendNegotiation(dst []byte) []byte {
	if s.Minor <= newestMinor && len(s.Options) == 0 {
		return dst
	}
	dst, at := begin(dst, 'v')
	// The field is called "newest minor protocol version supported", but PostgreSQL sends
	// (and libpq checks) the whole version number.
	dst = binary.BigEndian.AppendUint32(dst, protocolMajor<<16|uint32(s.Negotiated()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.Options)))
	for _, o := range s.Options {
		dst = appendCString(dst, o.Name)
	}
	return finish(dst, at)
}

func malformed(text string) *Error {
	return &Error{Severity: SeverityFatal, Code: sqlState(fault.Invalid), Message: text}
}
