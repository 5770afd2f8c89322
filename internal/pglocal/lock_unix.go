//go:build unix

package pglocal

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile opens path and locks it for as long as the file is open. It fails
// when another process holds the lock.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // the first error is the one to report
		return nil, err
	}
	return f, nil
}
