package config

import (
	"fmt"
	"log/slog"
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
