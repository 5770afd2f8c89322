//go:build unix

package audit

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/postern-db/postern/internal/fault"
)

// lockDir takes the lock that keeps a second writer away for as long as the
// returned file is open: two writers would fork the chain.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unwritable(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fault.Newf(fault.Unavailable, "the audit log in %s is in use by another process", dir).
			WithHint("is postern running already?").WithCause(err)
	}
	return f, nil
}
