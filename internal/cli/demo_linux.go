package cli

import "syscall"

// demoAttributes puts a process into a group of its own, and ends it when the
// demo itself is killed.
func demoAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
