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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/pglocal"
)

type demoOptions struct {
	pgVersion int
	pgDir     string
	auth      string
}

func newDemo(a *App) *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the main job done on a throwaway PostgreSQL",
		Long: `Start a throwaway PostgreSQL and Postern on free loopback ports, and show with real commands what a
database user is before, during and after a session. On a terminal it ends with an open psql. It
needs nothing but PostgreSQL and psql, touches nothing outside a temporary directory, and removes
everything when it ends.`,
		Example: `  postern demo
  postern demo --auth=password
  postern demo --pg-version=17`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), opts) }),
	}
	cmd.Flags().IntVar(&opts.pgVersion, "pg-version", 0, "major version of PostgreSQL (default: the newest of the distribution)")
	cmd.Flags().StringVar(&opts.pgDir, "pg-dir", "", "also look here for PostgreSQL, laid out as MAJOR/bin/postgres")
	cmd.Flags().StringVar(&opts.auth, "auth", demoCertificate, "how Postern logs in: certificate, or password on a server as it comes from a distribution")
	completeWith(cmd, "auth", demoCertificate, demoPassword)
	return cmd
}

// Ways for Postern to log in to the demo's server.
const (
	demoCertificate = "certificate"
	demoPassword    = "password"
)

func (a *App) demo(ctx context.Context, opts demoOptions) error {
	d, err := a.newDemoRun(opts)
	if err != nil {
		return err
	}
	// A terminal that goes away and a reader that stops reading end the demo as a
	// signal does: what it has started must not stay. Ctrl-C ends it too, but
	// belongs to psql at the prompt and to nobody while things are removed.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(ignored)

	err = errors.Join(d.perform(ctx), d.close())
	if err == nil {
		d.shell.paragraph()
		d.shell.comment("PostgreSQL, Postern and " + d.dir + " are gone")
	}
	return err
}

func (d *demoRun) perform(ctx context.Context) error {
	if err := d.open(); err != nil {
		return err
	}
	if err := d.play(ctx); err != nil {
		return err
	}
	if in, ok := d.In.(*os.File); !d.IsTTY || !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return d.prompt(ctx)
}

// demoRun is a demo that runs.
type demoRun struct {
	*App
	stock   bool // the server is as it comes from a distribution, and asks for passwords
	install pglocal.Installation
	psql    string // path of the program
	major   int    // version of psql

	dir     string // holds everything but PostgreSQL's data
	shell   *demoShell
	pg      *pglocal.Cluster
	hub     *demoProcess // postern start
	owner   *api.Client  // speaks to the hub as its owner
	session *demoProcess // what alice keeps open
	address string       // of the hub
	pin     string       // of its CA
}

// newDemoRun finds what the demo needs before anything is made.
func (a *App) newDemoRun(opts demoOptions) (*demoRun, error) {
	d := &demoRun{App: a, stock: opts.auth == demoPassword}
	err := checkFormat(opts.auth, demoCertificate, demoPassword)
	if err != nil {
		return nil, err
	}
	var dirs []string
	if opts.pgDir != "" {
		dirs = append(dirs, opts.pgDir)
	}
	if d.install, err = pglocal.Choose(pglocal.Find(dirs...), opts.pgVersion); err != nil {
		return nil, err
	}
	if d.psql, err = exec.LookPath("psql"); err != nil {
		return nil, fault.New(fault.NotFound, "psql is not installed, or not on the PATH").WithCause(err).
			WithHint("install it: apt-get install postgresql-client")
	}
	d.major, err = psqlVersion(d.psql)
	return d, err
}

var psqlVersionText = regexp.MustCompile(`^psql \(PostgreSQL\) (\d+)`)

func psqlVersion(path string) (int, error) {
	out, err := exec.Command(path, "--version").Output() //nolint:noctx // it prints one line and ends
	if err != nil {
		return 0, fmt.Errorf("run %s --version: %w", path, err)
	}
	match := psqlVersionText.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("%s --version says %q", path, out)
	}
	return strconv.Atoi(string(match[1]))
}

// maxDemoBase keeps the paths of the sockets in the demo's directory within the
// limit of every system.
const maxDemoBase = 40

// open makes the directory in which the demo happens, closed to everybody else.
func (d *demoRun) open() error {
	base := ""
	if len(os.TempDir()) > maxDemoBase {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "postern-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	d.dir = dir
	d.owner = client.Control(filepath.Join(dir, demoData))
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(program, filepath.Join(bin, programName)); err != nil {
		return err
	}
	d.shell = &demoShell{out: d.Out, color: d.Color, dir: dir, env: append(demoEnv(d.Env),
		"PATH="+bin+string(filepath.ListSeparator)+d.Getenv("PATH"),
		"HOME="+dir, "TMPDIR="+dir, "LC_ALL=C.UTF-8",
		"POSTERN_HOME=alice", "POSTERN_DATA_DIR="+demoData,
	)}
	return nil
}

// demoEnv returns the environment without what would lead the demo's programs
// out of its directory, or make them say the same in other words.
func demoEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		if slices.Contains([]string{"PATH", "HOME", "TMPDIR", "PWD", "TELEPORT_HOME"}, key) {
			return true
		}
		return slices.ContainsFunc([]string{"PG", "PSQL", "POSTERN_", "LC_", "LANG"}, func(prefix string) bool {
			return strings.HasPrefix(key, prefix)
		})
	})
}

// write puts a file into the demo's directory, readable by its owner only.
func (d *demoRun) write(name, text string) error {
	return os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600)
}

// close ends what was started, the other way round, and removes everything.
func (d *demoRun) close() error {
	for _, p := range []*demoProcess{d.session, d.hub} {
		if p != nil {
			p.stop()
		}
	}
	var err error
	if d.pg != nil {
		err = d.pg.Close()
	}
	if d.dir != "" {
		err = errors.Join(err, os.RemoveAll(d.dir))
	}
	return err
}

// psqlEndTime is how long psql has to leave a terminal that is going away.
const psqlEndTime = 10 * time.Second

// prompt hands the terminal to a psql of alice.
func (d *demoRun) prompt(ctx context.Context) error {
	d.shell.heading("YOUR TURN: psql is open as alice; \\q leaves and removes everything")
	d.shell.comment("what the DBA sees meanwhile, from another terminal:")
	d.shell.comment(fmt.Sprintf("psql -h %s -p %d -U %s -c '\\du'", d.pg.SocketDir(), d.pg.Port(), d.pg.Superuser()))
	d.shell.command(aliceConnect)
	// It stays in our process group, because that is the terminal's foreground.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "exec "+aliceConnect)
	cmd.Dir, cmd.Env = d.dir, d.shell.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = d.In, d.Out, d.Err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = psqlEndTime
	err := cmd.Run()
	if ctx.Err() != nil {
		return errDemoInterrupted
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return psqlStatus(err)
	}
	return err
}
