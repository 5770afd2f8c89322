package pglocal

import "syscall"

// attributes makes the process run as the owner, in its own process group so
// that Ctrl-C on the terminal is not its business, and end when we do: SIGQUIT
// is an immediate shutdown of PostgreSQL.
func attributes(o owner) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if o.other {
		a.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return a
}
