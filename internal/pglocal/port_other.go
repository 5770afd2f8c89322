//go:build !linux

package pglocal

import (
	"context"
	"fmt"
	"net"
	"os"
)

// holdPort returns a loopback port that is free at this moment. Whoever held it would
// keep the server from it as well.
func holdPort(ctx context.Context) (port int, held *os.File, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, nil, l.Close()
}
