//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// demoAttributes asks for nothing: there are no process groups here.
func demoAttributes() *syscall.SysProcAttr { return nil }

// signalGroup ends a process: there are no signals here.
func signalGroup(leader *os.Process, _ syscall.Signal) {
	_ = leader.Kill() // fails when it has ended
}
