package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-db/postern/internal/testenv"
)

// terminal is a person at a terminal.
type terminal struct {
	t    *testing.T
	keys *os.File

	mu     sync.Mutex // guards screen
	screen bytes.Buffer
}

// startOnTerminal starts cmd as the foreground process of a new terminal.
func startOnTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, keys: keys}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := keys.Read(buf)
			term.mu.Lock()
			term.screen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil { // EIO when the last process has gone
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		wg.Wait()
		_ = keys.Close()
	})
	return term
}

// hit types text.
func (p *terminal) hit(text string) {
	p.t.Helper()
	if _, err := p.keys.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// see waits until text is on the screen, and wipes the screen.
func (p *terminal) see(text string) {
	p.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		p.mu.Lock()
		seen := p.screen.String()
		if strings.Contains(seen, text) {
			p.screen.Reset()
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if time.Now().After(deadline) {
			p.t.Fatalf("waited for %q, saw %q", text, seen)
		}
		time.Sleep(5 * time.Millisecond) // polls a condition
	}
}

// Ctrl-C on a terminal cancels the running query and leaves psql as it was.
func TestCtrlCOnATerminal(t *testing.T) {
	t.Parallel()
	tess := logIn(t, "tess")
	cmd := postern(t, append(tess.environ, "TERM=dumb"), "db", "connect", "--db-name=postgres", "example", "--", "-At", "-n")
	person := startOnTerminal(t, cmd)
	person.see("postgres=>")
	person.hit("select pg_sleep(3600);\n")
	tess.AwaitQuery(t, tess.name, "pg_sleep")
	person.hit("\x03")
	person.see("canceling statement due to user request")
	person.hit("\x03") // at the prompt it does nothing
	person.see("postgres=>")
	person.hit("select current_user;\n")
	person.see("\ntess\r\n")
	person.hit("\\q\n")
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// A password is not shown, and Ctrl-C at its prompt gives the echo back.
func TestPasswordPrompt(t *testing.T) {
	t.Parallel()
	hub := testenv.Shared(t)
	hub.AddUser(t, "bob", nil, nil)
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	untrusted := postern(t, env, "login", "--proxy="+hub.Address, "--user=bob")
	startOnTerminal(t, untrusted).see("is not trusted") // and nobody was asked
	_ = untrusted.Wait()
	cmd := postern(t, env, "login", "--proxy="+hub.Address, "--user=bob", "--ca-pin="+hub.Pin)
	person := startOnTerminal(t, cmd)
	person.see("Password for bob at " + hub.Address + ": ")
	settings := func() uint32 {
		got, err := unix.IoctlGetTermios(int(person.keys.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return got.Lflag & unix.ECHO
	}
	if settings() != 0 {
		t.Error("the password would be shown")
	}
	person.hit("\x03")
	person.see("postern: error: interrupted")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || settings() == 0 {
		t.Errorf("exit code %d, echo %v", code, settings() != 0)
	}
	again := postern(t, env, "login", "--proxy="+hub.Address, "--user=bob", "--ca-pin="+hub.Pin)
	person = startOnTerminal(t, again)
	person.see("Password for bob")
	person.hit(testenv.Password + "\n")
	person.see("Valid until")
	if err := again.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}
