package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type dbEnvOptions struct {
	route  routeOptions
	format string
}

// envNames are libpq's variables for the settings of a connection string.
var envNames = map[string]string{
	"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE",
	"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "gssencmode": "PGGSSENCMODE",
}

func newDBEnv(a *App) *cobra.Command {
	var opts dbEnvOptions
	cmd := &cobra.Command{
		Use:   "env [NAME]",
		Short: "Print environment variables for a database",
		Long: `Print the environment variables with which programs that use libpq connect to a database by
themselves. They work as long as the certificate does.`,
		Example: `  eval "$(` + a.name + ` db env --db-name=shop example)"
  ` + a.name + ` db env --format=json example`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.route.name = optional(args)
			return a.dbEnv(cmd.Context(), opts)
		}),
	}
	opts.route.addFlags(a, cmd)
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) dbEnv(ctx context.Context, opts dbEnvOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	d, err := a.directTo(ctx, opts.route)
	if err != nil {
		return err
	}
	vars := map[string]string{}
	for _, s := range d.conninfo() {
		vars[envNames[s.Key]] = s.Value
	}
	return a.write(opts.format, vars, func() error {
		for _, s := range d.conninfo() {
			if _, err := fmt.Fprintf(a.Out, "export %s=%s\n", envNames[s.Key], shellQuote(s.Value)); err != nil {
				return err
			}
		}
		return nil
	})
}

// directTo gets a certificate and returns the settings to use it.
func (a *App) directTo(ctx context.Context, o routeOptions) (direct, error) {
	t, err := a.choose(ctx, o)
	if err != nil {
		return direct{}, err
	}
	defer t.hub.Close()
	cert, err := t.hub.CertificateFiles(ctx, t.route)
	if err != nil {
		return direct{}, err
	}
	return directSettings(ctx, t, cert)
}
