package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"charm.land/lipgloss/v2"
)

// demoShell runs command lines and shows them together with what they print.
type demoShell struct {
	out   io.Writer
	color bool
	dir   string
	env   []string

	mu      sync.Mutex // several processes may print at the same time
	atBlank bool       // the last line shown is empty, or there is none; guarded by mu
}

func (s *demoShell) heading(text string) {
	s.paragraph()
	s.print(s.styled(lipgloss.NewStyle().Bold(true), text) + "\n\n")
}

// paragraph sees to it that there is an empty line before what comes next.
func (s *demoShell) paragraph() {
	s.mu.Lock()
	apart := s.atBlank
	s.mu.Unlock()
	if !apart {
		s.print("\n")
	}
}

func (s *demoShell) comment(text string) {
	s.print(s.styled(lipgloss.NewStyle().Foreground(lipgloss.Cyan), "# "+text) + "\n")
}

func (s *demoShell) command(line string) {
	s.print(s.styled(lipgloss.NewStyle().Bold(true), "$ "+line) + "\n")
}

func (s *demoShell) styled(style lipgloss.Style, text string) string {
	if !s.color {
		return text
	}
	return style.Render(text)
}

func (s *demoShell) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.write([]byte(text)) // a reader that went away is a signal too, which ends the demo
}

// write needs mu.
func (s *demoShell) write(b []byte) (int, error) {
	s.atBlank = bytes.HasSuffix(b, []byte("\n\n")) || string(b) == "\n"
	return s.out.Write(b)
}

// demoProcess is a command line that runs, with everything below it.
type demoProcess struct {
	shell *demoShell
	cmd   *exec.Cmd
	stdin io.WriteCloser // what it reads; nil when that is nothing
	text  bytes.Buffer   // what it has printed; guarded by shell.mu
	done  chan struct{}  // closed when it has ended
	err   error          // how it ended; read after done
}

// start runs a command line in a process group of its own, so that Ctrl-C on the
// terminal is the demo's business and the demo can end all of it. It has an empty
// standard input, or one that stays open when interactive.
func (s *demoShell) start(line string, interactive bool) (*demoProcess, error) {
	p := &demoProcess{shell: s, done: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", "-c", line) //nolint:noctx // stop ends it, gently
	p.cmd.Dir, p.cmd.Env = s.dir, s.env
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = demoAttributes()
	p.cmd.WaitDelay = demoEndTime
	if interactive {
		in, err := p.cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		p.stdin = in
	}
	started := make(chan error)
	go func() {
		// The signal that the kernel sends when the parent dies (demoAttributes) goes
		// out when the starting *thread* ends, so the thread is kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %q: %w", line, err)
	}
	return p, nil
}

// run runs a command line to its end and returns what it has printed.
func (s *demoShell) run(ctx context.Context, line string) (string, error) {
	s.command(line)
	p, err := s.start(line, false)
	if err != nil {
		return "", err
	}
	if err := p.wait(ctx); err != nil {
		return "", err
	}
	return p.printed(), p.err
}

// wait waits for the end, whatever it is; it ends the process when ctx ends first.
func (p *demoProcess) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.stop()
		return ctx.Err()
	}
}

// demoEndTime is how long a process has to end by itself.
const demoEndTime = 10 * time.Second

// stop ends the process and everything below it.
func (p *demoProcess) stop() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-p.done:
			return
		default:
		}
		signalGroup(p.cmd.Process, s)
		select {
		case <-p.done:
			return
		case <-time.After(demoEndTime):
		}
	}
	<-p.done // WaitDelay bounds this
}

// Write shows what the process prints, and keeps it.
func (p *demoProcess) Write(b []byte) (int, error) {
	p.shell.mu.Lock()
	defer p.shell.mu.Unlock()
	p.text.Write(b)
	return p.shell.write(b)
}

func (p *demoProcess) printed() string {
	p.shell.mu.Lock()
	defer p.shell.mu.Unlock()
	return p.text.String()
}
