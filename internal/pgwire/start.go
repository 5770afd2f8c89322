package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// Limits of what a server may send before it is ready.
const (
	maxStartMessage  = 64 << 10 // libpq allows 30,000 for an error, 2,000 for the rest
	maxStartMessages = 1000     // PostgreSQL sends about 20; each notice of a login trigger is one more
	maxStartNotices  = 64 << 10
)

// StartConfig says who logs in.
type StartConfig struct {
	User     string // database user
	Database string // dbname
	// Params are sent as they are after user and database, in this order.
	Params []Param
	// Extra are parameters of our own. They are left out where there is no room: what
	// a client sends may be as long as PostgreSQL allows.
	Extra []Param
	// OwnReadOnly says that Params set default_transaction_read_only.
	OwnReadOnly bool
	// ProtocolMinor is the minor protocol version to ask for: 0, or 2 for long cancel
	// keys. A server that knows less answers with its own, see [Backend.Minor].
	ProtocolMinor uint16
	// Password is called when the server asks for one; nil means that there is none.
	Password func(ctx context.Context) (string, error)
	// SCRAMOnly refuses a server that asks for the password itself.
	SCRAMOnly bool
	// SaltedPassword takes the place of the password (RFC 5802, section 3), for SCRAM
	// only: whatever salt and count the server sends, nothing is derived. Password is not called.
	SaltedPassword []byte
}

// Backend is the server's process that serves a session.
type Backend struct {
	PID    uint32
	Secret []byte  // PostgreSQL's cancel key; never show it to a client
	Minor  uint16  // minor protocol version that the server speaks
	Params []Param // ParameterStatus, in the order received
	// Notices are the NoticeResponse messages sent while logging in, whole.
	Notices []byte
	// TxStatus is the transaction status of the first ReadyForQuery.
	TxStatus byte
}

// Param returns the value that the server reported for a parameter.
func (b *Backend) Param(name string) (value string, ok bool) {
	for _, p := range b.Params {
		if p.Name == name {
			value, ok = p.Value, true
		}
	}
	return value, ok
}

// Start logs in and returns when the server is ready for a query. It reads
// nothing behind ReadyForQuery. On an error the connection is of no more use.
//
// An error that the server reports is an [*Error] with all its fields. Other
// errors are Unavailable, and Invalid for what cannot be sent.
func (c *ServerConn) Start(ctx context.Context, cfg StartConfig) (*Backend, error) {
	packet, err := startupPacket(cfg)
	if err != nil {
		return nil, err
	}
	s := &starter{conn: c, cfg: cfg, backend: &Backend{Minor: cfg.ProtocolMinor}}
	err = whileContext(ctx, c.Conn, func() error {
		_, werr := c.Write(packet)
		// Even when that fails there may be something to read: with TLS 1.3 a server that
		// refuses our certificate says so only now, and closes.
		if err := s.run(ctx); werr == nil || remoteAlert(err) {
			return err
		}
		return werr
	})
	if err == nil {
		return s.backend, nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return nil, e
	}
	return nil, dialFault(c.host, err)
}

func startupPacket(cfg StartConfig) ([]byte, error) {
	params := append([]Param{{"user", cfg.User}, {"database", cfg.Database}}, cfg.Params...)
	size := 4 + 4 + 1
	for _, p := range params {
		size += len(p.Name) + len(p.Value) + 2
	}
	for _, p := range cfg.Extra {
		if more := len(p.Name) + len(p.Value) + 2; size+more-4 <= maxStartup {
			params, size = append(params, p), size+more
		}
	}
	packet := make([]byte, 8, 256)
	binary.BigEndian.PutUint32(packet[4:], protocolMajor<<16|uint32(cfg.ProtocolMinor))
	for _, p := range params {
		if p.Name == "" || strings.IndexByte(p.Name, 0) >= 0 || strings.IndexByte(p.Value, 0) >= 0 {
			return nil, fault.Newf(fault.Invalid, "start-up parameter %q cannot be sent", p.Name)
		}
		packet = appendCString(appendCString(packet, p.Name), p.Value)
	}
	packet = append(packet, 0)
	if len(packet)-4 > maxStartup {
		return nil, fault.New(fault.Invalid, "the start-up parameters are too long")
	}
	binary.BigEndian.PutUint32(packet, uint32(len(packet)))
	return packet, nil
}

// starter is a login in progress.
type starter struct {
	conn    *ServerConn
	cfg     StartConfig
	backend *Backend
	buf     []byte
	scram   *scram // nil unless SCRAM was begun
	authOK  bool
}

func (s *starter) run(ctx context.Context) error {
	s.buf = make([]byte, 1024)
	for range maxStartMessages {
		typ, body, err := readMessage(s.conn, s.buf, maxStartMessage)
		if err != nil {
			return noEOF(err)
		}
		ready, err := s.handle(ctx, typ, body)
		if err != nil || ready {
			return err
		}
	}
	return fault.New(fault.Unavailable, "the database server sends too much before it is ready")
}

func (s *starter) handle(ctx context.Context, typ byte, body []byte) (ready bool, err error) {
	b, c := s.backend, cursor{rest: body}
	switch typ {
	case 'R':
		return false, s.authenticate(ctx, body)
	case 'E':
		return false, ParseError(body)
	case 'N':
		if len(b.Notices)+headerSize+len(body) <= maxStartNotices {
			var at int
			b.Notices, at = begin(b.Notices, typ)
			b.Notices = finish(append(b.Notices, body...), at)
		}
		return false, nil
	case 'v':
		return false, s.negotiated(body)
	}
	if !s.authOK {
		return false, unexpected(typ)
	}
	switch typ {
	case 'S':
		b.Params = append(b.Params, Param{string(c.cstring()), string(c.cstring())})
	case 'K':
		b.PID = c.uint32()
		b.Secret = append([]byte(nil), c.rest...)
		if len(b.Secret) < 4 || len(b.Secret) > maxCancelKey {
			return false, fault.Newf(fault.Unavailable, "the database server sends a cancel key of %d bytes", len(b.Secret))
		}
	case 'Z':
		b.TxStatus = c.byte()
		ready = true
	default:
		return false, unexpected(typ)
	}
	if c.short {
		return false, unexpected(typ)
	}
	return ready, nil
}

// negotiated handles NegotiateProtocolVersion. We send no protocol options, so
// the list of those it does not know must be empty.
func (s *starter) negotiated(body []byte) error {
	c := cursor{rest: body}
	version, options := c.uint32(), c.uint32()
	minor := uint16(version)
	if c.short || options != 0 || s.authOK || version>>16 != protocolMajor || minor >= s.backend.Minor {
		return unexpected('v')
	}
	s.backend.Minor = minor
	return nil
}

func unexpected(typ byte) error {
	return fault.New(fault.Unavailable, "the database server does not answer like PostgreSQL").
		WithCause(fmt.Errorf("unexpected message of type %q during start-up", typ))
}
