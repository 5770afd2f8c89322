//go:build unix

package cli

import (
	"os"
	"syscall"
)

// giveToOwnerOf gives a file that root has made to the owner of a directory.
func giveToOwnerOf(dir, file string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Lchown(file, int(owner.Uid), int(owner.Gid))
}
