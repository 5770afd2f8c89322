package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// demoScene is a part of the story.
type demoScene struct {
	title string
	steps []demoStep
}

// demoStep is one thing that is shown. It proves what it claims: a step that
// shows something else ends the demo.
type demoStep struct {
	say   string                          // why, shown first
	run   string                          // command line, shown and run
	do    func(ctx context.Context) error // or what a command line cannot do
	fails bool                            // the command must fail
	shows []string                        // regular expressions that must match what is printed, line by line
	hides []string                        // and those that must not
	until demoState                       // waited for after it
}

const demoStepTime = 30 * time.Second

// errDemoInterrupted is the end by a signal, with the exit code of shells for it.
var errDemoInterrupted error = statusError(128 + int(syscall.SIGINT))

// play tells the story.
func (d *demoRun) play(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT)
	defer stop()
	for _, scene := range d.story() {
		s := scene() // only now, because it names what the ones before it made
		d.shell.heading(s.title)
		for _, step := range s.steps {
			err := d.show(ctx, step)
			if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) { // a reader that is gone may be noticed before its signal
				d.tell("\ninterrupted: removing everything")
				return errDemoInterrupted
			}
			if err != nil {
				return d.failed(step, err)
			}
		}
	}
	return nil
}

// failed says what should have been seen.
func (d *demoRun) failed(step demoStep, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (after %s)", err, demoStepTime)
	}
	f := fault.Newf(fault.Internal, "the demo stopped, because this did not happen: %s: %w", step.say, err)
	if inner, ok := errors.AsType[*fault.Error](err); ok {
		f = f.WithHint(inner.Hint).WithDetail(inner.Detail)
	}
	if log, err := os.ReadFile(filepath.Join(d.dir, demoLog)); err == nil && len(log) > 0 && f.Detail == "" {
		const most = 20
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		f = f.WithDetail("Postern's log ends with:\n" + strings.Join(lines[max(0, len(lines)-most):], "\n"))
	}
	return f
}

// show shows one step and checks it.
func (d *demoRun) show(ctx context.Context, step demoStep) error {
	ctx, cancel := context.WithTimeout(ctx, demoStepTime)
	defer cancel()
	d.shell.paragraph()
	d.shell.comment(step.say)
	if step.do != nil {
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if step.run != "" {
		printed, err := d.shell.run(ctx, step.run)
		if err := step.check(printed, err); err != nil {
			return err
		}
	}
	return d.await(ctx, step.until)
}

// check compares what a command did with what the step claims.
func (s demoStep) check(printed string, err error) error {
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		return err
	}
	if failed && !s.fails {
		return fmt.Errorf("%q ended with %w", s.run, exit)
	}
	if s.fails && !failed {
		return fmt.Errorf("%q was expected to fail", s.run)
	}
	for _, pattern := range s.shows {
		if !regexp.MustCompile("(?m)" + pattern).MatchString(printed) {
			return fmt.Errorf("%q was expected to print something like %q", s.run, pattern)
		}
	}
	for _, pattern := range s.hides {
		if regexp.MustCompile("(?m)" + pattern).MatchString(printed) {
			return fmt.Errorf("%q was expected not to print anything like %q", s.run, pattern)
		}
	}
	return nil
}
