package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

const (
	secretTimeout = 10 * time.Second // of a command that prints one
	maxSecret     = 4 << 10          // bytes; PostgreSQL takes no longer password
)

// adminSecret returns the admin user's password, read anew each time. It is kept
// nowhere, and no error holds any of it. Errors are Unavailable.
func adminSecret(ctx context.Context, admin resource.AdminUser) (string, error) {
	var secret string
	var err error
	switch {
	case admin.PasswordFile != "":
		secret, err = secretFile(admin.PasswordFile)
	case admin.PasswordEnv != "":
		secret = os.Getenv(admin.PasswordEnv)
	case len(admin.PasswordCommand) > 0:
		secret, err = secretOf(ctx, admin.PasswordCommand)
	default:
		return "", fault.Newf(fault.Unavailable, "the database server asks for a password of the admin user %s, and none is configured", admin.Name).
			WithHint("set admin_user.password_file of the database, or password_env; or let pg_hba.conf say peer for the admin user on a Unix socket")
	}
	if err != nil {
		return "", err
	}
	// What an editor, or echo, puts behind the last line.
	secret = strings.TrimSuffix(strings.TrimSuffix(secret, "\n"), "\r")
	switch {
	case secret == "":
		return "", secretFault(admin, "it is empty")
	case len(secret) > maxSecret || strings.ContainsAny(secret, "\x00\n"):
		return "", secretFault(admin, "it is not one line of text")
	}
	return secret, nil
}

func secretFault(admin resource.AdminUser, why string) error {
	where := "the file " + admin.PasswordFile
	switch {
	case admin.PasswordEnv != "":
		where = "the environment variable " + admin.PasswordEnv
	case len(admin.PasswordCommand) > 0:
		where = "the command " + admin.PasswordCommand[0]
	}
	return fault.Newf(fault.Unavailable, "the password of the admin user %s cannot be read from %s: %s", admin.Name, where, why)
}

// secretFile reads a file that only its owner can read. One of root's may also be
// readable by its group: that is how secrets are mounted into containers.
func secretFile(path string) (string, error) {
	// Opening something else, such as a pipe, may wait for ever.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return "", fault.Newf(fault.Unavailable, "the password file %s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Newf(fault.Unavailable, "the password file cannot be opened: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened
	if err != nil {
		return "", fault.Newf(fault.Unavailable, "the password file cannot be read: %w", err)
	}
	const others, othersButGroup = 0o077, 0o037
	open := os.FileMode(others)
	if ownedByRoot(info) {
		open = othersButGroup
	}
	if info.Mode().Perm()&open != 0 {
		return "", fault.Newf(fault.Unavailable, "the password file %s can be read by others: its mode is %04o", path, info.Mode().Perm()).
			WithHint("chmod 600 " + path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+3))
	if err != nil {
		return "", fault.Newf(fault.Unavailable, "the password file cannot be read: %w", err)
	}
	return string(data), nil
}

// secretOf runs a command and returns what it prints. What it says on standard
// error is not passed on: it may hold the secret.
func secretOf(ctx context.Context, command []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second // a grandchild may keep the pipe open
	var out bytes.Buffer
	cmd.Stdout = &limitedWriter{to: &out, left: maxSecret + 3}
	if err := cmd.Run(); err != nil {
		why := fmt.Sprintf("the command %s for the admin user's password does not succeed", command[0])
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return "", fault.Newf(fault.Unavailable, "%s: %w", why, err).WithHint("run it as the user that the agent runs as; it must print the password and nothing else")
	}
	return out.String(), nil
}
