//go:build unix

package agent

import (
	"os"
	"syscall"
)

// ownedByRoot reports whether the file belongs to root.
func ownedByRoot(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}
