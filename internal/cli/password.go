package cli

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

// maxPassword is the longest password that the hub takes, in bytes.
const maxPassword = 4096

// readPasswordFile reads a password from a file, or from In for "-". The line end
// that editors add is not part of it.
func (a *App) readPasswordFile(path string) (client.Secret, error) {
	in := a.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fault.Newf(fault.Invalid, "cannot read the password: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPassword+3))
	if err != nil {
		return "", fault.Newf(fault.Invalid, "cannot read the password: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if len(password) > maxPassword {
		return "", fault.Newf(fault.Invalid, "the password is longer than %d bytes", maxPassword)
	}
	if password == "" {
		return "", fault.New(fault.Invalid, "the password is empty")
	}
	return client.Secret(password), nil
}

// password finds the password of a login: in a file, in the environment, or by
// asking.
func (a *App) password(ctx context.Context, file, who string) (client.Secret, error) {
	if file != "" {
		return a.readPasswordFile(file)
	}
	if password := a.Getenv("POSTERN_PASSWORD"); password != "" {
		return client.Secret(password), nil
	}
	return a.ask(ctx, "Password for "+who+": ")
}

// newPassword finds a password that is yet to be set; a person types it twice.
func (a *App) newPassword(ctx context.Context, file, who string) (client.Secret, error) {
	if file != "" || a.Getenv("POSTERN_PASSWORD") != "" {
		return a.password(ctx, file, who)
	}
	first, err := a.ask(ctx, "New password for "+who+": ")
	if err != nil {
		return "", err
	}
	second, err := a.ask(ctx, "The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", fault.New(fault.Invalid, "the two passwords differ")
	}
	return first, nil
}

func (a *App) ask(ctx context.Context, prompt string) (client.Secret, error) {
	if a.AskSecret == nil {
		return "", fault.New(fault.Invalid, "there is no terminal to ask for the password").
			WithHint("use --password-file=FILE ('-' reads standard input), or set POSTERN_PASSWORD")
	}
	text, err := a.AskSecret(ctx, printable(prompt))
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", fault.New(fault.Invalid, "the password is empty")
	}
	return client.Secret(text), nil
}
