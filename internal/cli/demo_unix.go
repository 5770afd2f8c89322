//go:build unix

package cli

import (
	"os"
	"syscall"
)

// signalGroup sends a signal to a process and everything below it.
func signalGroup(leader *os.Process, s syscall.Signal) {
	_ = syscall.Kill(-leader.Pid, s) // fails when all of it has ended
}
