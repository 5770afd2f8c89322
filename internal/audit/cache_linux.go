package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget tells the kernel that nobody will soon read what file holds from offset on,
// size bytes or, if that is zero, all. Pages that are not durable yet stay, and whoever
// reads one that went gets it from the disk. It is advice: that a file system does not
// take it changes nothing, so there is no error.
func forget(file *os.File, offset, size int64) {
	_ = unix.Fadvise(int(file.Fd()), offset, size, unix.FADV_DONTNEED)
}
