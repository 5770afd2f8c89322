//go:build !linux

package pgwire

import "net"

func newSocket(conn net.Conn) net.Conn { return conn }
