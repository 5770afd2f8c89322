package cli

import (
	"cmp"
	"context"
	"sync"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

type dbConnectOptions struct {
	route    routeOptions
	psqlArgs []string
}

func newDBConnect(a *App) *cobra.Command {
	var opts dbConnectOptions
	cmd := &cobra.Command{
		Use:   "connect [NAME] [-- psql arguments]",
		Short: "Open psql on a database",
		Long: `Open psql on a database, through a local proxy that nobody else on this machine can reach.
NAME may be left out when you are logged in to one database. What follows -- goes to psql,
whose exit code becomes that of this command.`,
		Example: `  ` + a.name + ` db connect --db-name=shop example
  ` + a.name + ` db connect --db-name=shop --db-roles=reader example -- -c 'select current_user'`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, opts.psqlArgs = args[:dash], args[dash:]
			}
			opts.route.name = optional(args)
			return a.dbConnect(cmd.Context(), opts)
		}),
	}
	opts.route.addFlags(a, cmd)
	acceptTunnel(cmd)
	return cmd
}

// acceptTunnel accepts a flag that asks for what always happens here.
func acceptTunnel(cmd *cobra.Command) {
	cmd.Flags().Bool("tunnel", true, "")
	if err := cmd.Flags().MarkHidden("tunnel"); err != nil {
		panic(err) // the flag is one line above
	}
}

func (a *App) dbConnect(ctx context.Context, opts dbConnectOptions) error {
	psql, err := a.findPSQL() // before anything is asked of anybody
	if err != nil {
		return err
	}
	t, err := a.choose(ctx, opts.route)
	if err != nil {
		return err
	}
	defer t.hub.Close()
	cert, err := t.hub.DatabaseCertificate(ctx, t.route)
	if err != nil {
		return err
	}
	settings, err := settingsOf(t, cert)
	if err != nil {
		return err
	}
	if settings.name == "" {
		return mustChoose(t.database.Name, "name", "names", t.database.Names)
	}
	ln, err := client.ListenPrivate(ctx)
	if err != nil {
		return err
	}
	settings.host, settings.port = ln.Host, ln.Port
	serving, stop := context.WithCancel(ctx)
	var served error
	var wg sync.WaitGroup
	wg.Go(func() { served = t.hub.Proxy(t.route, a.logger()).Serve(serving, ln) })
	err = a.runPSQL(psql, settings, opts.psqlArgs)
	stop()
	wg.Wait()
	return cmp.Or(err, served)
}

// settings are what a program needs to connect.
type settings struct{ host, port, user, name string }

// settingsOf says as whom and where to connect, except for the address.
func settingsOf(t target, cert *client.DatabaseCertificate) (settings, error) {
	s := settings{
		user: cmp.Or(t.route.DatabaseUser, cert.DatabaseUser),
		name: cmp.Or(t.route.DatabaseName, cert.DatabaseName),
	}
	if s.user == "" && t.database.Provisioning {
		s.user = t.hub.Profile.User
	}
	if s.user == "" {
		return s, fault.Newf(fault.Invalid, "the database user for %s is not known", quote(t.database.Name)).WithHint("add --db-user=NAME")
	}
	return s, nil
}
