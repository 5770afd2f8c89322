package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// maxSocketPath is how long the path of a Unix socket may be (Linux: 108 bytes
// with the final zero, macOS: 104).
const maxSocketPath = 103

// privateDir makes the data directory, or checks that nobody else can enter it:
// the keys of the cluster are inside.
func privateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fault.Newf(fault.Invalid, "the data directory cannot be made: %w", err).
			WithHint("set data_dir to a place that this user may write to")
	}
	info, err := os.Stat(path)
	if err != nil {
		return fault.Newf(fault.Invalid, "the data directory cannot be used: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fault.Newf(fault.Invalid, "the data directory %s can be entered by others", path).
			WithHint("run: chmod 700 " + path)
	}
	return nil
}

// listenControl opens the socket of the hub's owner. It is in a directory that
// only the owner can enter, and for the owner only by its own mode as well.
func listenControl(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fault.Newf(fault.Invalid, "the path of the control socket is too long: %s", path).
			WithHint("use a data_dir with a shorter path")
	}
	// The state, which only one process can open, is open by now: whatever socket is
	// here was left by a process that is gone.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old control socket: %w", err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open the control socket: %w", err), ln.Close())
	}
	return ln, nil
}

func listenFault(addr string, err error) error {
	f := fault.Newf(fault.Unavailable, "cannot listen on %s: %w", addr, err)
	if errors.Is(err, syscall.EADDRINUSE) {
		return f.WithHint("another program uses this port; stop it, or set hub.listen_addr")
	}
	return f
}

// closed returns a function that closes a listener which may be closed already.
func closed(ln net.Listener) func() error {
	return func() error {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// certificateFiles returns the certificate in two files, which are read again
// when they change.
func certificateFiles(certFile, keyFile string) func() (*tls.Certificate, error) {
	var mu sync.Mutex // guards the variables below
	var cert *tls.Certificate
	var changed time.Time
	return func() (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		info, err := os.Stat(certFile)
		if err != nil {
			return nil, err
		}
		if cert != nil && info.ModTime().Equal(changed) {
			return cert, nil
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil && cert != nil {
			return cert, nil // between the replacement of one file and the other
		}
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "hub.tls: %w", err)
		}
		cert, changed = &pair, info.ModTime()
		return cert, nil
	}
}
