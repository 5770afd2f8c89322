package hub

import (
	"log"
	"log/slog"
)

// quietLog is where the HTTP servers write: strangers who break off TLS are not
// worth more than a line for us.
func quietLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }
