//go:build unix && !linux

package cli

import "syscall"

// demoAttributes puts a process into a group of its own.
func demoAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
