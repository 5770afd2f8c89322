package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/postern-db/postern/internal/fault"
)

// prepareFiles makes the directory and the database file so that nobody but the
// owner can read them. SQLite gives its -wal and -shm files the mode of the
// database file. Wider modes are refused instead of repaired: what was readable
// may have been read, and somebody should know.
func prepareFiles(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unavailable(err)
	}
	if err := ownerOnly(dir); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return fault.Newf(fault.Invalid, "this user may not open %s", path).WithCause(err).
			WithHint("start postern as the user that owns the directory, or choose another data_dir")
	}
	if err != nil {
		return unavailable(err)
	}
	if err := f.Close(); err != nil {
		return unavailable(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if err := ownerOnly(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func ownerOnly(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return unavailable(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fault.Newf(fault.Invalid, "%s holds secrets and is open to others (mode %04o)", name, mode).
			WithHint(fmt.Sprintf("chmod go-rwx %s", name))
	}
	return nil
}
