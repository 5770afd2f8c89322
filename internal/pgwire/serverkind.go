package pgwire

import (
	"context"
	"fmt"
	"strings"
)

// ServerKind says which of several servers take a session: libpq's
// target_session_attrs, with its words. Empty means any.
type ServerKind string

// The kinds of servers.
const (
	AnyServer           ServerKind = "any"
	ReadWriteServer     ServerKind = "read-write" // sessions may write by default
	ReadOnlyServer      ServerKind = "read-only"  // they may not
	PrimaryServer       ServerKind = "primary"
	StandbyServer       ServerKind = "standby"
	PreferStandbyServer ServerKind = "prefer-standby" // a standby, or any when there is none
)

// Standbys reports whether it is standbys that are looked for.
func (k ServerKind) Standbys() bool {
	return k == StandbyServer || k == PreferStandbyServer || k == ReadOnlyServer
}

// passes are the kinds to try all hosts for, in turn.
func (k ServerKind) passes() []ServerKind {
	switch k {
	case "":
		return []ServerKind{AnyServer}
	case PreferStandbyServer:
		return []ServerKind{StandbyServer, AnyServer}
	case AnyServer, ReadWriteServer, ReadOnlyServer, PrimaryServer, StandbyServer:
	}
	return []ServerKind{k}
}

// suits reports whether the server is of the kind wanted. With ownReadOnly the
// client has chosen whether it may write, which says nothing of the server.
func (c *ServerConn) suits(ctx context.Context, b *Backend, want ServerKind, ownReadOnly bool) (bool, error) {
	if want == AnyServer {
		return true, nil
	}
	standby, err := c.setting(ctx, b, "in_hot_standby", "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return false, err
	}
	if want == PrimaryServer || want == StandbyServer {
		return standby == (want == StandbyServer), nil
	}
	if standby || ownReadOnly {
		return standby == (want == ReadOnlyServer), nil
	}
	readOnly, err := c.setting(ctx, b, "default_transaction_read_only", "SHOW default_transaction_read_only")
	return readOnly == (want == ReadOnlyServer), err
}

// setting returns what the server has reported, as it does since version 14, or
// else what it answers to a query.
func (c *ServerConn) setting(ctx context.Context, b *Backend, name, query string) (on bool, err error) {
	value, reported := b.Param(name)
	if !reported {
		err = whileContext(ctx, c.Conn, func() error {
			value, err = c.ask(query)
			return err
		})
	}
	return strings.HasPrefix(value, "on") || strings.HasPrefix(value, "t"), err
}

// ask returns the only value that a query gives.
func (c *ServerConn) ask(query string) (value string, err error) {
	message, at := begin(nil, 'Q')
	if _, err := c.Write(finish(appendCString(message, query), at)); err != nil {
		return "", err
	}
	for range maxStartMessages {
		typ, body, readErr := readMessage(c, nil, maxStartMessage)
		if readErr != nil {
			return "", noEOF(readErr)
		}
		switch field := (cursor{rest: body}); typ {
		case 'D':
			if columns := field.uint16(); columns != 1 {
				return "", unexpected(typ)
			}
			value = string(field.take(int(int32(field.uint32()))))
			if field.short {
				return "", unexpected(typ)
			}
		case 'E':
			err = ParseError(body)
		case 'Z':
			return value, err
		}
	}
	return "", fmt.Errorf("answer to %s: %w", query, unexpected('Z'))
}
