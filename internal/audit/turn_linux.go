package audit

import "golang.org/x/sys/unix"

// yield lets other threads that wait for this processor run first, and returns at once
// when there are none. Go's scheduler is not told: its own processor stays ours, as when
// the kernel interrupts a thread.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
