package pglocal

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Shutdown says how a server stops.
type Shutdown int

// The ways to stop. Immediate is the zero value.
const (
	// Immediate ends every process at once, as a crash would; the next start
	// replays the write-ahead log.
	Immediate Shutdown = iota
	// Fast ends sessions and writes a checkpoint.
	Fast
)

// signal returns the signal the postmaster understands ("Shutting Down the
// Server" in the PostgreSQL documentation).
func (s Shutdown) signal() os.Signal {
	if s == Fast {
		return syscall.SIGINT
	}
	return syscall.SIGQUIT
}

// process is a program of an installation that was started.
type process struct {
	pid  int
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// startProcess runs a program as the owner, with its output appended to a file.
func startProcess(o owner, logFile string, in Installation, program string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// The program gets its own duplicate.
	defer log.Close()
	cmd := exec.Command(in.bin(program), args...) //nolint:noctx // it outlives the call that starts it
	cmd.Dir = "/"
	cmd.Env = in.env()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(o)

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal that the kernel sends when the parent dies (attributes) goes
		// out when the starting *thread* ends, so the thread is kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return p, nil
}

// stop ends the process and waits for it.
func (p *process) stop(how Shutdown) {
	// An error means that it has ended already.
	_ = p.cmd.Process.Signal(how.signal())
	<-p.done
}
