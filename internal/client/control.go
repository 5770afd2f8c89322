package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

// Control returns a caller of the API through the socket in the data directory
// of a hub on this machine. Whoever may open the socket is the hub's owner.
// Calls are Unavailable when no hub runs there and Denied when the socket
// belongs to somebody else.
func Control(dataDir string) *api.Client {
	socket := filepath.Join(dataDir, api.ControlSocket)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fault.Newf(fault.Denied, "the hub in %s belongs to somebody else", dataDir).
				WithCause(err).WithHint("run the command as the user that runs 'postern start'")
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			return nil, fault.Newf(fault.Unavailable, "no hub runs in %s", dataDir).
				WithCause(err).WithHint("start it with 'postern start', or name its directory with --data-dir or its configuration with --config")
		}
		return conn, err
	}
	return &api.Client{Base: "http://hub", HTTP: &http.Client{Transport: &http.Transport{DialContext: dial}, CheckRedirect: noRedirect}}
}
