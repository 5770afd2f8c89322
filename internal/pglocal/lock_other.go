//go:build !unix

package pglocal

import "os"

// lockFile makes path. There is no lock to take here: opening a file that
// exists fails, so nothing is ever taken for stale.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}
