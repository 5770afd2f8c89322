package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/postern-db/postern/internal/fault"
)

// findPSQL looks for psql on the PATH.
func (a *App) findPSQL() (string, error) {
	for _, dir := range filepath.SplitList(a.Getenv("PATH")) {
		if !filepath.IsAbs(dir) { // what lies in the current directory is not asked for
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, "psql")); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.NotFound, "psql is not installed, or not on the PATH").
		WithHint("install it (Debian: apt-get install postgresql-client), or use '" + a.name + " proxy db' with another program")
}

// runPSQL runs psql on the settings and waits for its end. An exit code other
// than 0 becomes an [statusError].
func (a *App) runPSQL(path string, s settings, args []string) error {
	cmd := exec.Command(path, args...) //nolint:noctx // psql decides itself when it ends; signals reach it below
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	cmd.Env = psqlEnv(a.Env, s)
	// psql stays in our process group, and with it in the terminal's foreground:
	// there Ctrl-C reaches it directly. We must only not die of it ourselves.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start psql: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	fromTerminal := readsTerminal(cmd)
	for {
		select {
		case err := <-ended:
			return psqlStatus(err)
		case s := <-signals:
			if fromTerminal && (s == syscall.SIGINT || s == syscall.SIGQUIT) {
				continue // psql has got it too
			}
			_ = cmd.Process.Signal(s) // fails when psql has just ended
		}
	}
}

func readsTerminal(cmd *exec.Cmd) bool {
	f, ok := cmd.Stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// psqlStatus turns the end of psql into ours, as shells do.
func psqlStatus(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return statusError(128 + int(status.Signal()))
	}
	return statusError(exit.ExitCode())
}

// keptByPSQL are libpq's variables that say nothing about where and as whom to
// connect. All others are taken away: each could lead elsewhere, or make libpq
// refuse a connection that needs no password.
var keptByPSQL = []string{"PGAPPNAME", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "PGDATESTYLE", "PGGEQO", "PGLOCALEDIR", "PGOPTIONS", "PGSYSCONFDIR", "PGTZ"}

// psqlEnv returns the environment for psql. The settings travel in it, and not
// as arguments, so that a connection string among the user's arguments counts.
func psqlEnv(env []string, s settings) []string {
	kept := slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		return len(key) > 2 && strings.HasPrefix(key, "PG") && key[2] != '_' && !slices.Contains(keptByPSQL, key)
	})
	return append(kept,
		"PGHOST="+s.host, "PGPORT="+s.port, "PGUSER="+s.user, "PGDATABASE="+s.name,
		"PGSSLMODE=disable", "PGGSSENCMODE=disable", // the proxy encrypts
	)
}
