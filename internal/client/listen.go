package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/postern-db/postern/internal/fault"
)

// PrivatePort is the port in the name of the socket of [ListenPrivate].
const PrivatePort = "5432"

// maxSocketPath is the shortest limit among the systems we run on (macOS), less
// the terminating zero.
const maxSocketPath = 103

// PrivateListener listens where no other user of the machine can connect.
type PrivateListener struct {
	net.Listener
	Host string // for libpq: a directory, or an address
	Port string

	dir string // removed on Close; may be empty
}

// ListenPrivate listens on a Unix socket in a new directory that only this user
// can enter. Where there are no such sockets it listens on the loopback address.
func ListenPrivate(ctx context.Context) (*PrivateListener, error) {
	if runtime.GOOS == "windows" {
		ln, err := ListenLoopback(ctx, "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		host, port, err := net.SplitHostPort(ln.Addr().String())
		return &PrivateListener{Listener: ln, Host: host, Port: port}, err
	}
	dir, err := privateDir()
	if err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", socketIn(dir))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for psql: %w", err), os.RemoveAll(dir))
	}
	return &PrivateListener{Listener: ln, Host: dir, Port: PrivatePort, dir: dir}, nil
}

func socketIn(dir string) string { return filepath.Join(dir, ".s.PGSQL."+PrivatePort) }

// privateDir makes a directory with mode 0700 and a path short enough for a socket.
func privateDir() (string, error) {
	for _, parent := range []string{"", "/tmp"} { // the usual place for temporary files first
		dir, err := os.MkdirTemp(parent, "postern-")
		if err != nil {
			return "", fmt.Errorf("make a directory for the socket: %w", err)
		}
		if len(socketIn(dir)) <= maxSocketPath {
			return dir, nil
		}
		if err := os.Remove(dir); err != nil {
			return "", fmt.Errorf("make a directory for the socket: %w", err)
		}
	}
	return "", errors.New("no temporary directory has a path short enough for a socket")
}

// Close stops listening and removes the directory.
func (l *PrivateListener) Close() error {
	err := l.Listener.Close()
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}

// ListenLoopback listens on a loopback address, host:port with port 0 for any.
// Other addresses are Invalid: the listener asks for no password.
func ListenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "%q is not host:port", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fault.Newf(fault.Invalid, "%s is not a loopback address", host).
			WithHint("the local proxy asks for no password, so only this machine may reach it; use 127.0.0.1")
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fault.Newf(fault.Unavailable, "cannot listen on %s: %w", address, err).WithHint("choose another --port, or leave it out")
	}
	return ln, nil
}
