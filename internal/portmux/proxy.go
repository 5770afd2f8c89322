package portmux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The PROXY protocol, with which a load balancer says who it connects for.
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
const (
	proxyTextStart = "PROXY "                 // version 1
	proxyMagic     = "\r\n\r\n\x00\r\nQUIT\n" // version 2
	maxProxyText   = 107                      // of a version 1 header, with its line end
	maxProxyBinary = 4096                     // of what follows the 16 fixed bytes of version 2; the addresses take 36
	proxyLocal     = 0x20                     // version 2: the balancer itself, as for health checks
	proxyForwarded = 0x21                     // version 2: for somebody else
	proxyUnspec    = 0x00                     // version 2: for somebody with no address of the internet
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

var errProxyHeader = errors.New("no valid PROXY protocol header")

// readProxyHeader reads the header of the PROXY protocol, version 1 or 2, and not
// a byte behind it. The address is that of the client; it is invalid when the
// balancer speaks for itself. What a header says beside it is skipped.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var start [len(proxyMagic)]byte
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return netip.AddrPort{}, err
	}
	if string(start[:]) == proxyMagic {
		return readProxyBinary(r)
	}
	line := start[:]
	if !strings.HasPrefix(string(line), proxyTextStart) {
		return netip.AddrPort{}, errProxyHeader
	}
	var next [1]byte
	for !strings.HasSuffix(string(line), "\r\n") {
		if len(line) == maxProxyText {
			return netip.AddrPort{}, errProxyHeader
		}
		if _, err := io.ReadFull(r, next[:]); err != nil {
			return netip.AddrPort{}, err
		}
		line = append(line, next[0])
	}
	return parseProxyText(strings.TrimSuffix(string(line), "\r\n"))
}

// parseProxyText reads "PROXY TCP4 <source> <destination> <port> <port>".
func parseProxyText(line string) (netip.AddrPort, error) {
	fields := strings.Split(line, " ")
	if len(fields) > 1 && fields[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil // whatever follows it
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return netip.AddrPort{}, errProxyHeader
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(fields[2+i])
		if err != nil || addr.Zone() != "" || addr.Is4() != (fields[1] == "TCP4") {
			return netip.AddrPort{}, errProxyHeader
		}
		port, err := strconv.ParseUint(fields[4+i], 10, 16)
		if err != nil || strconv.FormatUint(port, 10) != fields[4+i] {
			return netip.AddrPort{}, errProxyHeader
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return ends[0], nil
}

// readProxyBinary reads what follows the magic bytes of version 2.
func readProxyBinary(r io.Reader) (netip.AddrPort, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return netip.AddrPort{}, err
	}
	command, family, size := head[0], head[1], int(binary.BigEndian.Uint16(head[2:]))
	if size > maxProxyBinary || command != proxyLocal && command != proxyForwarded {
		return netip.AddrPort{}, errProxyHeader
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, err
	}
	width := 0
	switch {
	case command == proxyLocal || family == proxyUnspec:
		return netip.AddrPort{}, nil
	case family == proxyTCP4:
		width = 4
	case family == proxyTCP6:
		width = 16
	}
	if width == 0 || size < 2*width+4 { // two addresses, two ports
		return netip.AddrPort{}, errProxyHeader
	}
	addr, _ := netip.AddrFromSlice(body[:width])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(body[2*width:])), nil
}

// fromProxy reports whether conn comes from one of the balancers.
func (m *Mux) fromProxy(conn net.Conn) bool {
	if len(m.cfg.Proxies) == 0 {
		return false
	}
	remote, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	return err == nil && slices.ContainsFunc(m.cfg.Proxies, func(p netip.Prefix) bool { return p.Contains(remote.Addr().Unmap().WithZone("")) })
}

// readProxy reads the header that a balancer has to send, and counts the
// connection for the client from then on. It returns the client's address, or nil
// for that of the balancer.
func (m *Mux) readProxy(w *waiting) (net.Addr, error) {
	client, err := readProxyHeader(w.conn)
	if err != nil {
		return nil, fmt.Errorf("read PROXY protocol header: %w", err)
	}
	if !client.IsValid() {
		return nil, nil
	}
	remote := net.TCPAddrFromAddrPort(client)
	m.half.assign(w, SourceOf(remote))
	return remote, nil
}
