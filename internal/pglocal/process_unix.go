//go:build unix && !linux

package pglocal

import "syscall"

// attributes makes the process run as the owner, in its own process group so
// that Ctrl-C on the terminal is not its business.
func attributes(o owner) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if o.other {
		a.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return a
}
