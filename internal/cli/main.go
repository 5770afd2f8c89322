package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/postern-db/postern/internal/fault"
)

// Exit codes. Together with fault kinds this is the one table between the two.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitLogin   = 4 // logging in first would help
	programName = "postern"
)

// statusError is the exit code of a program that ran in our place. It has said
// itself what went wrong.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a command line that does not fit the commands.
type usageError struct {
	error

	command string // whose help says more; empty where the error says enough
}

// misused makes f an error of the command line, found after the command began.
func misused(f *fault.Error) error { return usageError{error: f} }

func (e usageError) Unwrap() error { return e.error }

// Main runs the command line args, whose first element is the name under which
// the program was called, and returns the exit code.
func Main(ctx context.Context, args []string, streams IO) int {
	app := newApp(args[0], streams)
	root := app.Root()
	root.SetArgs(args[1:])
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !app.ran {
		if _, ok := errors.AsType[usageError](err); !ok { // cobra's own, such as an unknown command
			err = usageError{err, command.CommandPath()}
		}
	}
	return app.report(err)
}

// report tells the person what went wrong and returns the exit code.
func (a *App) report(err error) int {
	if err == nil {
		return exitOK
	}
	if status, ok := errors.AsType[statusError](err); ok {
		return int(status)
	}
	text, hint, code := err.Error(), "", exitFailed
	if f, ok := errors.AsType[*fault.Error](err); ok {
		hint = f.Hint
		if f.Detail != "" {
			text += "\n" + f.Detail
		}
		if f.Kind == fault.Unauthenticated {
			code = exitLogin
		}
	}
	if usage, ok := errors.AsType[usageError](err); ok {
		code = exitUsage
		if hint == "" && usage.command != "" {
			hint = fmt.Sprintf("run '%s --help'", usage.command)
		}
	}
	a.say("error", text)
	if hint != "" {
		a.say("hint", hint)
	}
	if chain := fault.Chain(err); a.debug && chain != text {
		a.say("debug", chain)
	}
	return code
}

// say writes one message to the person.
func (a *App) say(kind, text string) {
	fmt.Fprintf(a.Err, "%s: %s: %s\n", programName, kind, printableText(strings.TrimSuffix(text, "\n")))
}

// warn tells the person something that does not stop the command.
func (a *App) warn(format string, args ...any) { a.say("warning", fmt.Sprintf(format, args...)) }

// tell writes a line of talk.
func (a *App) tell(format string, args ...any) {
	fmt.Fprintln(a.Err, printableText(fmt.Sprintf(format, args...)))
}
