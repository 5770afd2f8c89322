package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

type dbLoginOptions struct{ route routeOptions }

func newDBLogin(a *App) *cobra.Command {
	var opts dbLoginOptions
	cmd := &cobra.Command{
		Use:   "login [NAME]",
		Short: "Log in to a database",
		Long: `Get a certificate for a database and remember user, name and roles as those to use for it. A
section in libpq's service file (~/.pg_service.conf) makes the database known to psql and other
programs. For those without libpq the certificate and its key are written apart, the key also
in DER for JDBC; 'db config --client' prints settings with these files. All of it works as long as the
certificate does.`,
		Example: `  ` + a.name + ` db login --db-name=shop example
  ` + a.name + ` db login --db-name=shop --db-roles=reader,writer example`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.route.name = optional(args)
			return a.dbLogin(cmd.Context(), opts)
		}),
	}
	opts.route.addFlags(a, cmd)
	return cmd
}

func (a *App) dbLogin(ctx context.Context, opts dbLoginOptions) error {
	t, err := a.choose(ctx, opts.route)
	if err != nil {
		return err
	}
	defer t.hub.Close()
	cert, err := t.hub.LogInToDatabase(ctx, t.route)
	if err != nil {
		return err
	}
	d, err := directSettings(ctx, t, cert)
	if err != nil {
		return err
	}
	services, err := a.serviceFile()
	if err != nil {
		return err
	}
	if err := services.Put(d.service, d.conninfo()); err != nil {
		return err
	}
	a.tell("logged in to database %s until %s", quote(t.database.Name), cert.Expires.Local().Format("15:04:05"))
	a.tell("connect with:  %s db connect %s", a.name, t.database.Name)
	a.tell("or with:       psql service=%s", d.service)
	a.tell("or others:     %s db config --client={%s} %s", a.name, strings.Join(clientNames(), "|"), t.database.Name)
	return nil
}
