package config

import (
	"fmt"
	"log/slog"
	"net/netip"
)

// Level is how much is logged.
type Level string

// UnmarshalText reads debug, info, warn or error.
func (l *Level) UnmarshalText(text []byte) error {
	var level slog.Level
	if err := level.UnmarshalText(text); err != nil {
		return fmt.Errorf("invalid log level %q, use debug, info, warn or error", text)
	}
	*l = Level(text)
	return nil
}

// Slog returns the level for slog; info unless set.
func (l Level) Slog() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l)) // checked when it was read; empty stays info
	return level
}

// Format is how log lines look.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// UnmarshalText reads text or json.
func (f *Format) UnmarshalText(text []byte) error {
	switch Format(text) {
	case Text, JSON:
		*f = Format(text)
		return nil
	}
	return fmt.Errorf("invalid log format %q, use text or json", text)
}

// Network is an address, or all of a network: 10.0.0.5, 10.0.0.0/8, fd00::/8.
type Network struct{ netip.Prefix }

// UnmarshalText reads an address, with or without the size of a network.
func (n *Network) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		n.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(string(text))
	if err != nil || prefix.Addr().Is4In6() || prefix != prefix.Masked() {
		return fmt.Errorf("invalid address %q, write an address or a network: 10.0.0.5, 10.0.0.0/8", text)
	}
	n.Prefix = prefix
	return nil
}
