//go:build !unix

package pglocal

import "syscall"

// attributes asks for nothing special: there is no root to get away from.
func attributes(owner) *syscall.SysProcAttr { return nil }
