package client

import (
	"net"
	"strconv"
	"strings"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

// ParseAddress completes the address of a hub to host:port. It accepts a host,
// host:port, or an https URL without a path. What it does not understand is
// Invalid.
func ParseAddress(text string) (string, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "https://"), "/")
	host, port, err := net.SplitHostPort(address)
	if err != nil { // no port
		host, port = strings.Trim(address, "[]"), api.DefaultPort
		if strings.HasPrefix(text, "https://") {
			port = "443"
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || net.ParseIP(host) == nil && !isHostName(host) {
		return "", fault.Newf(fault.Invalid, "%q is not the address of a hub", text).
			WithHint("write it as HOST or HOST:PORT, for example --proxy=hub.example.com:" + api.DefaultPort)
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// isHostName reports whether text can be the name of a host. It becomes part of
// file names, so it holds no separators and begins with no dot.
func isHostName(text string) bool {
	const others = "._-"
	for i := range len(text) {
		c := text[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !plain && (i == 0 || strings.IndexByte(others, c) < 0) {
			return false
		}
	}
	return text != "" && len(text) <= 253 // RFC 1035 §2.3.4, without the root's dot
}
