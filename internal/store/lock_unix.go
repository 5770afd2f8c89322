//go:build unix

package store

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/postern-db/postern/internal/fault"
)

// lockFile takes the lock that keeps a second process away for as long as the
// returned file is open. SQLite alone would let two hubs share a file, and then
// neither would see the changes of the other in its watches.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unavailable(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fault.Newf(fault.Unavailable, "%s is in use by another process", path).
			WithHint("is postern running already?").WithCause(err)
	}
	return f, nil
}
