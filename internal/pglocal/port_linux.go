package pglocal

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// holdPort takes a loopback port that is free and keeps it until it is closed: with a
// socket that is bound and never listens. Linux gives such a port to nobody who asks for
// any that is free, and lets a server listen on it that asks for this one with
// SO_REUSEADDR, as PostgreSQL does.
func holdPort(context.Context) (port int, held *os.File, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("hold a port: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "held port")
	if port, err = bindLoopback(fd); err != nil {
		_ = socket.Close() // the first error is the one to report
		return 0, nil, fmt.Errorf("hold a port: %w", err)
	}
	return port, socket, nil
}

func bindLoopback(fd int) (port int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}); err != nil {
		return 0, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return address.(*unix.SockaddrInet4).Port, nil
}
