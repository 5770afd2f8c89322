package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDemo runs the whole demo as people do: the real binary, PostgreSQL, psql.
// After each run nothing may be left, neither a process nor a file.
func TestDemo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the binary and starts PostgreSQL several times")
	}
	program := filepath.Join(demoPlace(t), "postern")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T, d *demoUnderTest)
	}{
		{"tells the story", demoTellsTheStory},
		{"tells the story on a stock server", demoOnStockServer},
		{"as an ordinary user", demoAsOrdinaryUser},
		{"ends on SIGINT", func(t *testing.T, d *demoUnderTest) { demoEndsOn(t, d, syscall.SIGINT) }},
		{"ends on SIGTERM", func(t *testing.T, d *demoUnderTest) { demoEndsOn(t, d, syscall.SIGTERM) }},
		{"ends when nobody reads", demoEndsWithoutReader},
		{"leaves no process when it is killed", demoKilled},
		{"stops at a step that does not show what it should", demoStops},
		{"says what is missing", demoMissing},
		{"gives a prompt on a terminal", demoPrompt},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newDemoUnderTest(t, program))
		})
	}
}

func demoTellsTheStory(t *testing.T, d *demoUnderTest) {
	start := time.Now()
	if err := d.cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, d.printed())
	}
	t.Logf("took %s", time.Since(start).Round(10*time.Millisecond))
	got := d.printed()
	rest := got
	for _, want := range []string{ // in this order
		"$ postern start -c postern.yaml", "postern is ready: ", "$ postern ctl auth sign", "$ postern ctl create -f example.yaml",
		"$ postern ctl create -f roles.yaml", "$ postern ctl users add alice", "$ postern login ",
		"BEFORE", "$ psql -c '\\du'", "teleport-admin",
		"CONNECT", "$ postern db ls -v", "[reader writer]", "SELECT current_user", " alice\n", "permission denied for table salaries",
		"WHILE CONNECTED", "\n alice ",
		"AFTER", "\n alice ", "Cannot login",
		"best_effort_drop", "\n bob\n",
		"AUDIT", "db.session.query", "db.user.deactivate", " are gone\n",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place:\n%s", want, got)
		}
		rest = after
	}
	if strings.Contains(got, "\x1b") {
		t.Error("there are escape sequences in what is not a terminal")
	}
	d.wantNothingLeft(t)
}

func demoOnStockServer(t *testing.T, d *demoUnderTest) {
	d.cmd.Args = append(d.cmd.Args, "--auth=password")
	if err := d.cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, d.printed())
	}
	rest := d.printed()
	for _, want := range []string{
		"$ postern ctl db add example", "the way to log in is password", "CONNECT", " alice\n", "WHILE CONNECTED", "-infinity", "AFTER", "Cannot login", " are gone\n",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place:\n%s", want, d.printed())
		}
		rest = after
	}
	d.wantNothingLeft(t)
}

func demoAsOrdinaryUser(t *testing.T, d *demoUnderTest) {
	if os.Geteuid() != 0 {
		t.Skip("every other test is one of an ordinary user")
	}
	const nobody = 65534
	if err := os.Chown(d.dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := d.cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, d.printed())
	}
	d.wantNothingLeft(t)
}

func demoEndsOn(t *testing.T, d *demoUnderTest, s syscall.Signal) {
	d.start(t)
	d.waitFor(t, "WHILE CONNECTED")
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	d.wantExit(t, 130)
	if !strings.Contains(d.printed(), "interrupted: removing everything") {
		t.Errorf("it does not say that it was interrupted:\n%s", d.printed())
	}
	d.wantNothingLeft(t)
}

func demoEndsWithoutReader(t *testing.T, d *demoUnderTest) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout = w
	d.start(t)
	lines := bufio.NewScanner(r)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "CONNECT") {
	}
	if err := errors.Join(lines.Err(), w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	d.wantExit(t, 130)
	d.wantNothingLeft(t)
}

func demoKilled(t *testing.T, d *demoUnderTest) {
	d.start(t)
	d.waitFor(t, "AFTER")
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait() // it was killed
	d.waitUntil(t, "its processes end", func() bool { return len(d.processes(t)) == 0 })
}

func demoStops(t *testing.T, d *demoUnderTest) {
	// The DBA's psql finds alice before she can be there.
	d.fakePSQL(t, `case "$*" in "-c \\du") echo " alice | Cannot login | {}"; echo " teleport-admin |"; exit;; esac; exec `+lookPath(t, "psql")+` "$@"`)
	d.start(t)
	d.wantExit(t, 1)
	for _, want := range []string{"postern: error: the demo stopped, because this did not happen: the DBA looks", `was expected not to print anything like "\\balice\\b"`} {
		if !strings.Contains(d.printed(), want) {
			t.Errorf("%q is missing:\n%s", want, d.printed())
		}
	}
	d.wantNothingLeft(t)
}

func demoMissing(t *testing.T, d *demoUnderTest) {
	d.cmd.Args = append(d.cmd.Args, "--pg-version=9")
	d.start(t)
	d.wantExit(t, 1)
	if want := "postern: error: PostgreSQL 9 is not installed on this machine"; !strings.Contains(d.printed(), want) {
		t.Errorf("%q is missing:\n%s", want, d.printed())
	}
	without := newDemoUnderTest(t, d.cmd.Path)
	without.cmd.Env = append(without.cmd.Env, "PATH="+without.dir)
	without.start(t)
	without.wantExit(t, 1)
	if want := "postern: hint: install it: apt-get install postgresql-client"; !strings.Contains(without.printed(), want) {
		t.Errorf("%q is missing:\n%s", want, without.printed())
	}
	without.wantNothingLeft(t)
}

func demoPrompt(t *testing.T, d *demoUnderTest) {
	keyboard, screen := openTerminal(t)
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = screen, screen, screen
	d.cmd.Env = append(d.cmd.Env, "TERM=xterm", "PAGER=cat", "NO_COLOR=")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	d.start(t)
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(d, keyboard) }() // a terminal that is gone ends it
	for _, turn := range []struct{ wait, keys string }{
		{"shop=> ", "SELECT 'I am ' || current_user;\n"},
		{"I am alice", "DO $$BEGIN RAISE NOTICE 'asleep'; PERFORM pg_sleep(600); END$$;\n"},
		{"NOTICE:  asleep", "\x03"}, // Ctrl-C reaches psql and does not end the demo
		{"canceling statement due to user request", "\\q\n"},
	} {
		d.waitFor(t, turn.wait)
		if _, err := io.WriteString(keyboard, turn.keys); err != nil {
			t.Fatal(err)
		}
	}
	d.wantExit(t, 0)
	if !strings.Contains(d.printed(), "\x1b[1mYOUR TURN") {
		t.Errorf("headings are not bold on a terminal:\n%q", d.printed())
	}
	d.wantNothingLeft(t)
}

// demoUnderTest is a run of the demo that keeps all its files in one directory.
type demoUnderTest struct {
	dir string
	cmd *exec.Cmd

	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // has an element when text has grown
}

func newDemoUnderTest(t *testing.T, program string) *demoUnderTest {
	d := &demoUnderTest{dir: demoPlace(t), news: make(chan struct{}, 1)}
	d.cmd = exec.CommandContext(t.Context(), program, "demo")
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.dir)
	d.cmd.Stdout, d.cmd.Stderr = d, d
	return d
}

// demoPlace makes a directory with a path short enough for sockets that every
// user can enter; t.TempDir is neither.
func demoPlace(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "demo-test-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fakePSQL puts a script in the place of psql.
func (d *demoUnderTest) fakePSQL(t *testing.T, script string) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "psql"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.cmd.Env = append(d.cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"))
}

func lookPath(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (d *demoUnderTest) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.news <- struct{}{}:
	default:
	}
	return d.text.Write(b)
}

func (d *demoUnderTest) printed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

func (d *demoUnderTest) start(t *testing.T) {
	t.Helper()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

const demoTestTime = 3 * time.Minute // a machine may be busy with other tests

func (d *demoUnderTest) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(demoTestTime)
	for !strings.Contains(d.printed(), text) {
		select {
		case <-d.news:
		case <-deadline:
			t.Fatalf("%q was not printed:\n%s", text, d.printed())
		}
	}
}

func (d *demoUnderTest) waitUntil(t *testing.T, what string, there func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(demoTestTime)
	for !there() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for: %s; there are still %q", what, d.processes(t))
		}
	}
}

func (d *demoUnderTest) wantExit(t *testing.T, want int) {
	t.Helper()
	err := d.cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	if got := d.cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("exit code %d, want %d:\n%s", got, want, d.printed())
	}
}

func (d *demoUnderTest) wantNothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(d.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if left := d.processes(t); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
}

// processes returns the command lines of the processes that were given the
// directory, as an argument or in their environment.
func (d *demoUnderTest) processes(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no processes in /proc", err)
	}
	var found []string
	for _, dir := range dirs {
		line, errLine := os.ReadFile(filepath.Join(dir, "cmdline"))
		env, errEnv := os.ReadFile(filepath.Join(dir, "environ"))
		if errLine != nil && errEnv != nil {
			continue // it has just ended
		}
		if slices.ContainsFunc([][]byte{line, env}, func(text []byte) bool { return bytes.Contains(text, []byte(d.dir)) }) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// openTerminal makes a pseudo terminal and returns its two sides.
func openTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 120}); err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, screen
}
