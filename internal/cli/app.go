package cli

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

// App is what the commands of one run share.
type App struct {
	IO

	name  string   // as called: postern, tsh or tctl
	debug bool     // --debug
	hub   hubFlags // --data-dir and --config
	ran   bool     // a command began to run; errors before that are wrong usage
}

// command makes one command.
type command func(*App) *cobra.Command

// userCommands are for people who use databases; they are all that tsh shows.
func userCommands() []command {
	return []command{newLogin, newLogout, newStatus, newDB, newProxy}
}

// adminCommands are for the hub's owner, below ctl; they are all that tctl shows.
func adminCommands() []command {
	return []command{newCreate, newGet, newRemove, newEdit, newHubStatus, newUsers, newAuth, newDiscovery, newCtlDB}
}

// serverCommands are for who runs the hub, and shown under the name postern only.
func serverCommands() []command {
	return []command{newStart, newConfig, withHubFlags(newCtl), withHubFlags(newAccess), withHubFlags(newAudit), newDemo}
}

const (
	nameTSH  = "tsh"
	nameTCTL = "tctl"
)

func newApp(arg0 string, streams IO) *App {
	name := strings.TrimSuffix(filepath.Base(arg0), ".exe")
	if name != nameTSH && name != nameTCTL {
		name = programName
	}
	return &App{IO: streams, name: name}
}

// Root returns the tree of commands for the name under which the program was called.
func (a *App) Root() *cobra.Command {
	root := &cobra.Command{
		Use:           a.name,
		Short:         "Access gateway for PostgreSQL",
		Long:          "Log in once and open PostgreSQL as yourself: accounts and rights exist while you are connected, and are gone afterwards.",
		SilenceErrors: true, // report does it
		SilenceUsage:  true,

		DisableFlagsInUseLine: true,

		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{err, cmd.CommandPath()} })
	root.PersistentFlags().BoolVar(&a.debug, "debug", false, "say more about what happens, and about errors")
	add := func(id, title string, commands []command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			cmd := c(a)
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	switch a.name {
	case nameTCTL:
		add("admin", "Commands for the hub's owner:", append(adminCommands(), newAudit))
		a.addHubFlags(root)
	case nameTSH:
		add("user", "Commands for users:", userCommands())
	default:
		add("user", "Commands for users:", userCommands())
		add("server", "Commands for the hub's owner:", serverCommands())
	}
	root.AddCommand(newVersion(a))
	return root
}

// path is how the person calls an administrator's command, for examples and hints.
func (a *App) path(command string) string {
	if a.name == nameTCTL {
		return a.name + " " + command
	}
	return programName + " ctl " + command
}

// group makes a command that only holds others.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: subcommand, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// subcommand refuses arguments of a command that only holds others.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	f := fault.Newf(fault.Invalid, "unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		f = f.WithHint("did you mean '" + cmd.CommandPath() + " " + similar[0] + "'?")
	}
	return usageError{f, cmd.CommandPath()}
}

// run wraps the function of a command, so that its errors are told apart from
// those of a wrong command line.
func (a *App) run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ran = true
		return f(cmd, args)
	}
}

// positional checks arguments against names such as "NAME", "[NAME]" for one that
// may be missing and "NAME..." for one or more.
func positional(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); dash >= 0 { // what follows is for another program
			args = args[:dash]
		}
		for i, name := range names {
			if i >= len(args) && !strings.HasPrefix(name, "[") {
				return usageError{errors.New("missing " + strings.TrimSuffix(name, "...")), cmd.CommandPath()}
			}
			if strings.HasSuffix(name, "...") {
				return nil
			}
		}
		if len(args) > len(names) {
			return usageError{errors.New("unexpected argument " + quote(args[len(names)])), cmd.CommandPath()}
		}
		return nil
	}
}

// optional returns the argument that may be missing, or "".
func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// logger returns the log of a command: talk that only --debug shows.
func (a *App) logger() *slog.Logger {
	if !a.debug {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// home returns the directory of profiles.
func (a *App) home() (*client.Home, error) {
	dir := a.Getenv("POSTERN_HOME")
	if dir == "" && a.name == nameTSH {
		dir = a.Getenv("TELEPORT_HOME")
	}
	if dir == "" {
		home, err := a.userHome()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(home, ".postern")
	}
	dir, err := filepath.Abs(dir)
	return &client.Home{Dir: dir}, err
}

func (a *App) userHome() (string, error) {
	if home := a.Getenv("HOME"); home != "" {
		return home, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fault.Newf(fault.Invalid, "the home directory is not known: %w", err).WithHint("set HOME or POSTERN_HOME")
	}
	return home, nil
}
