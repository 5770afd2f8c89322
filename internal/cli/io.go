package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/postern-db/postern/internal/fault"
)

// IO is what a command has of the outside world.
type IO struct {
	In  io.Reader
	Out io.Writer // data
	Err io.Writer // talk

	IsTTY bool // Out is a terminal: tables may have lines, text may be cut to fit
	Color bool // Out may have colour
	Width int  // columns of the terminal; 0 is unknown

	// AskSecret asks a person for a secret without showing it. It is nil when
	// nobody can be asked.
	AskSecret func(ctx context.Context, prompt string) (string, error)
	// AskLine asks a person for a line of text. It is nil when AskSecret is.
	AskLine func(ctx context.Context, prompt string) (string, error)

	// Env holds KEY=value pairs, as os.Environ does.
	Env []string
}

// SystemIO is the IO of this process.
func SystemIO() IO {
	streams := IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ()}
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		streams.IsTTY = true
		streams.Color = streams.Getenv("NO_COLOR") == "" && streams.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(fd); err == nil {
			streams.Width = width
		}
	}
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		streams.AskSecret = func(ctx context.Context, prompt string) (string, error) {
			return askTerminal(ctx, fd, prompt)
		}
		streams.AskLine = func(_ context.Context, prompt string) (string, error) {
			return askLine(os.Stdin, os.Stderr, prompt)
		}
	}
	return streams
}

// Getenv returns a variable of the environment, or "".
func (s IO) Getenv(key string) string {
	for _, pair := range slices.Backward(s.Env) { // the last one counts
		if value, found := strings.CutPrefix(pair, key+"="); found {
			return value
		}
	}
	return ""
}

// askLine reads a line, and nothing behind it. On a terminal Ctrl-C ends the program.
func askLine(in io.Reader, out io.Writer, prompt string) (string, error) {
	if _, err := io.WriteString(out, prompt); err != nil {
		return "", err
	}
	var line []byte
	for one := make([]byte, 1); ; {
		switch n, err := in.Read(one); {
		case n == 1 && one[0] == '\n':
			return strings.TrimSpace(string(line)), nil
		case n == 1:
			line = append(line, one[0])
		case errors.Is(err, io.EOF):
			return "", fault.New(fault.Invalid, "nothing was entered")
		case err != nil:
			return "", err
		}
	}
}

// askTerminal reads a line from the terminal without echo. Ctrl-C must not leave
// the terminal without echo, as the default action of the signal would.
func askTerminal(ctx context.Context, fd int, prompt string) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	// Before the prompt: what a fast typist, or a program, enters at once must not show.
	if err := hideInput(fd); err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(fd, before) }()
	if _, err := io.WriteString(os.Stderr, prompt); err != nil {
		return "", err
	}
	go func() { // a read of a terminal cannot be interrupted: on Ctrl-C it ends with the process
		text, err := term.ReadPassword(fd)
		read <- line{text, err}
	}()
	select {
	case got := <-read:
		_, _ = io.WriteString(os.Stderr, "\n") // a failing terminal shows in the read already
		if errors.Is(got.err, io.EOF) {
			return "", fault.New(fault.Invalid, "nothing was entered")
		}
		return string(got.text), got.err
	case <-ctx.Done():
		_, _ = io.WriteString(os.Stderr, "\n")
		return "", fault.New(fault.Invalid, "interrupted")
	}
}
