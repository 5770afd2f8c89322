package audit

import "golang.org/x/sys/unix"

// giveWay lets other threads that wait for this processor run first; it returns at once
// when there are none. The kernel does not take a processor away from a thread that has
// worked for less than about 3 ms, not even for one that was just woken up, and while
// another processor is idle. A burst of ours would hold up PostgreSQL and sessions for
// as long as it lasts.
//
// Go's scheduler is not told: its own processor stays ours, as when the kernel
// interrupts a thread.
func giveWay() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
