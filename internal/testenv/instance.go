package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/daemon"
)

// patience bounds every wait of a test. It is long: machines that run tests are
// busy, and nothing waits this long unless it is broken.
const patience = 60 * time.Second

// instance is the gateway while it runs.
type instance interface {
	stop() error         // properly, as SIGTERM does
	ended() <-chan error // gets one value when it has ended
	kill(tb testing.TB)  // at once, as SIGKILL does
}

// PID returns the process id of the gateway.
func (e *Env) PID() int {
	if p, ok := e.running.(*process); ok {
		return p.cmd.Process.Pid
	}
	return os.Getpid()
}

// start starts the gateway and waits until it is ready.
func (e *Env) start(t testing.TB) {
	t.Helper()
	ready := newAnnouncement()
	if e.options.Process {
		e.running = startProcess(t, Binary(t), e.configFile(t), ready, e.log)
	} else {
		e.running = startInside(t, e, ready)
	}
	select {
	case <-ready.done:
		e.Address, e.Pin = ready.address, ready.pin
	case err := <-e.running.ended():
		e.running = nil
		t.Fatalf("the gateway ended before it was ready: %v\n%s", err, e.log)
	case <-time.After(patience):
		t.Fatalf("the gateway is not ready\n%s", e.log)
	}
}

// Stop ends the gateway properly and waits for it.
func (e *Env) Stop(t testing.TB) {
	t.Helper()
	err := e.running.stop()
	e.running = nil
	if (err != nil) != e.broken {
		t.Errorf("the gateway did not end cleanly: %v", err)
	}
}

// Crash ends the gateway at once, with nothing done for its sessions. It must be
// a process of its own.
func (e *Env) Crash(t testing.TB) {
	t.Helper()
	e.running.kill(t)
	e.running = nil
}

// Restart starts the gateway again on its state and address, stopping it first
// if it runs.
func (e *Env) Restart(t testing.TB) {
	t.Helper()
	if e.running != nil {
		e.Stop(t)
	}
	e.start(t)
}

// inside is a gateway in this process.
type inside struct {
	cancel context.CancelFunc
	done   chan error
}

func startInside(t testing.TB, e *Env, ready *announcement) *inside {
	t.Helper()
	cfg := e.Config(t)
	ctx, cancel := context.WithCancel(context.Background())
	i := &inside{cancel: cancel, done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		i.done <- daemon.Run(ctx, cfg, daemon.Options{Version: "test", Out: ready, Log: log, AWS: e.options.AWS, Now: e.options.Now})
	}()
	return i
}

func (i *inside) ended() <-chan error { return i.done }

func (i *inside) stop() error {
	i.cancel()
	return ended(i.done)
}

func (i *inside) kill(tb testing.TB) {
	tb.Fatal("only a gateway with Options.Process can be killed")
}

// ended waits for the end of a gateway.
func ended(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errors.New("it does not end")
	}
}

// process is a gateway of its own process.
type process struct {
	cmd  *exec.Cmd
	done chan error
}

func startProcess(t testing.TB, binary, config string, ready *announcement, log *buffer) *process {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), binary, "start", "-c", config)
	cmd.Stdout, cmd.Stderr = ready, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	return p
}

func (p *process) ended() <-chan error { return p.done }

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return ended(p.done)
}

func (p *process) kill(tb testing.TB) {
	if err := p.cmd.Process.Kill(); err != nil {
		tb.Fatal(err)
	}
	if err := <-p.done; err == nil {
		tb.Error("the gateway ended by itself")
	}
}

// built is the program, built once per test binary.
var built struct {
	sync.Mutex
	dir string
}

// Binary returns the path of the program. It is built on first use, with the
// package's TestMain calling [Main], which removes it.
func Binary(t testing.TB) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		return filepath.Join(built.dir, "postern")
	}
	dir := shortDir(t)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "postern"), "github.com/postern-db/postern/cmd/postern")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	built.dir = dir
	return filepath.Join(dir, "postern")
}

// announcement takes the output of a gateway until it says that it is ready.
type announcement struct {
	done         chan struct{} // closed then
	address, pin string

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

var readyLine = regexp.MustCompile(`postern is ready: address=(\S+) cluster=\S+ ca_pin=(\S+)\n`)

func newAnnouncement() *announcement { return &announcement{done: make(chan struct{})} }

func (a *announcement) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(p)
	if m := readyLine.FindStringSubmatch(a.text.String()); m != nil && a.address == "" {
		a.address, a.pin = m[1], m[2]
		close(a.done)
	}
	return len(p), nil
}

// buffer is text that one goroutine writes and another reads.
type buffer struct {
	mu    sync.Mutex // guards the fields below
	text  bytes.Buffer
	watch func(line string) // nil: nobody watches
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	watch := b.watch
	n, err := b.text.Write(p)
	b.mu.Unlock()
	if watch != nil {
		watch(string(p))
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// tail returns the last n bytes at most.
func (b *buffer) tail(n int) string {
	text := b.String()
	if len(text) <= n {
		return text
	}
	return fmt.Sprintf("… %d bytes …%s", len(text)-n, text[len(text)-n:])
}
