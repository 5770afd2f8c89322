package portmux

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// binaryHeader returns a version 2 header.
func binaryHeader(command, family byte, body string) string {
	return proxyMagic + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

const (
	ports  = "\x01\x02\x03\x04"
	tcp4   = "\x01\x02\x03\x04\x05\x06\x07\x08" + ports
	tcp6   = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + ports
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x05\x06\x07\x08" + ports
)

func TestReadProxyHeader(t *testing.T) {
	t.Parallel()
	const behind = "what follows"
	for name, c := range map[string]struct {
		sent string
		want string // "" the balancer itself, "!" refused, "…" cut short
	}{
		"v1 IPv4":                   {"PROXY TCP4 1.2.3.4 5.6.7.8 56324 443\r\n", "1.2.3.4:56324"},
		"v1 IPv6":                   {"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", "[2001:db8::1]:1"},
		"v1 IPv4 in IPv6":           {"PROXY TCP6 ::ffff:1.2.3.4 ::ffff:5.6.7.8 1 2\r\n", "1.2.3.4:1"},
		"v1 unknown":                {"PROXY UNKNOWN\r\n", ""},
		"v1 unknown with addresses": {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
		"v1 as long as allowed":     {"PROXY UNKNOWN " + strings.Repeat("x", maxProxyText-16) + "\r\n", ""},
		"v1 too long":               {"PROXY UNKNOWN " + strings.Repeat("x", maxProxyText-15) + "\r\n", "!"},
		"v1 without end":            {"PROXY TCP4 1.2.3.4 5.6.7.8 " + strings.Repeat("1", 200), "!"},
		"v1 cut short":              {"PROXY TCP4 1.2.3.4", "…"},
		"v1 line feed only":         {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n" + strings.Repeat(" ", 100), "!"},
		"v1 other family":           {"PROXY TCP4 ::1 ::2 1 2\r\n", "!"},
		"v1 IPv4 as IPv6":           {"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "!"},
		"v1 zone":                   {"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", "!"},
		"v1 port too large":         {"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "!"},
		"v1 port with a sign":       {"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", "!"},
		"v1 port with zeros":        {"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "!"},
		"v1 two blanks":             {"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", "!"},
		"v1 one field more":         {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "!"},
		"v1 in lower case":          {"proxy tcp4 1.2.3.4 5.6.7.8 1 2\r\n", "!"},
		"v2 IPv4":                   {binaryHeader(0x21, 0x11, tcp4), "1.2.3.4:258"},
		"v2 IPv6":                   {binaryHeader(0x21, 0x21, tcp6), "[2001:db8::1]:258"},
		"v2 IPv4 in IPv6":           {binaryHeader(0x21, 0x21, mapped), "1.2.3.4:258"},
		"v2 with more fields":       {binaryHeader(0x21, 0x11, tcp4+"\x04\x00\x02ab"), "1.2.3.4:258"},
		"v2 local":                  {binaryHeader(0x20, 0x00, ""), ""},
		"v2 local with addresses":   {binaryHeader(0x20, 0x11, tcp4), ""},
		"v2 no address":             {binaryHeader(0x21, 0x00, "anything"), ""},
		"v2 as long as allowed":     {binaryHeader(0x21, 0x11, tcp4+strings.Repeat("x", maxProxyBinary-len(tcp4))), "1.2.3.4:258"},
		"v2 too long":               {binaryHeader(0x21, 0x11, tcp4+strings.Repeat("x", maxProxyBinary+1-len(tcp4))), "!"},
		"v2 addresses cut":          {binaryHeader(0x21, 0x21, tcp4), "!"},
		"v2 datagrams":              {binaryHeader(0x21, 0x12, tcp4), "!"},
		"v2 socket":                 {binaryHeader(0x21, 0x31, strings.Repeat("x", 216)), "!"},
		"v2 unknown command":        {binaryHeader(0x22, 0x11, tcp4), "!"},
		"v3":                        {binaryHeader(0x31, 0x11, tcp4), "!"},
		"v2 cut short":              {binaryHeader(0x21, 0x11, tcp4)[:20], "…"},
		"TLS":                       {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00", "!"},
		"HTTP":                      {"GET / HTTP/1.1\r\n\r\n", "!"},
		"nothing":                   {"", "…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := c.want != "!" && c.want != "…"
			sent := c.sent
			if good {
				sent += behind
			}
			r := iotest.OneByteReader(strings.NewReader(sent))
			got, err := readProxyHeader(r)
			switch {
			case c.want == "!" && !errors.Is(err, errProxyHeader), c.want == "…" && (err == nil || errors.Is(err, errProxyHeader)):
				t.Errorf("got %v, %v", got, err)
			case good:
				want, _ := netip.ParseAddrPort(c.want)
				if rest, _ := io.ReadAll(r); err != nil || got != want || string(rest) != behind {
					t.Errorf("got %v, %v with %q behind it, want %v", got, err, rest, want)
				}
			}
		})
	}
}

// FuzzProxyHeader checks that nothing makes the reader panic or read more than a
// header may have, and that an address is only ever one of the internet.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 56324 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(binaryHeader(0x21, 0x21, tcp6)))
	f.Add([]byte(binaryHeader(0x20, 0x00, "")))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		got, err := readProxyHeader(r)
		if read := len(sent) - r.Len(); read > len(proxyMagic)+4+maxProxyBinary {
			t.Fatalf("%d bytes read", read)
		}
		if err != nil && got.IsValid() || got.Addr().Zone() != "" || got.Addr().Is4In6() {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}
