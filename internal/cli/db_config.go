package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const formatCommand = "cmd"

type dbConfigOptions struct {
	route  routeOptions
	client string
	format string
}

// connectionConfig is what db config prints for programs.
type connectionConfig struct {
	Name     string `json:"name"`
	Host     string `json:"host"`
	Address  string `json:"address"`
	Port     string `json:"port"`
	User     string `json:"user"`
	Database string `json:"database,omitempty"`
	CA       string `json:"ca"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	KeyDER   string `json:"key_der"` // the same key for Java
}

func newDBConfig(a *App) *cobra.Command {
	var opts dbConfigOptions
	cmd := &cobra.Command{
		Use:   "config [NAME]",
		Short: "Print connection settings for a database",
		Long: `Print the settings with which a program connects to a database by itself, ready to use with --client:
psql, pgadmin (a file to import), dbeaver, jdbc, psycopg, pgx, node-postgres. Without it: a program
that can dials Address and verifies Host, others connect to the hub by the name that you log in to. With
--format=cmd, print the psql command. The settings work as long as the certificate does; 'db login'
renews the files in place.`,
		Example: `  ` + a.name + ` db config --db-name=shop --client=jdbc example
  ` + a.name + ` db config --client=pgadmin example > servers.json
  ` + a.name + ` db config --format=cmd example`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.route.name = optional(args)
			return a.dbConfig(cmd.Context(), opts)
		}),
	}
	opts.route.addFlags(a, cmd)
	cmd.Flags().StringVar(&opts.client, "client", "", "program to print settings for: "+strings.Join(clientNames(), ", "))
	completeWith(cmd, "client", clientNames()...)
	formatFlag(cmd, &opts.format, formatText, formatCommand, formatJSON, formatYAML)
	return cmd
}

func (a *App) dbConfig(ctx context.Context, opts dbConfigOptions) error {
	if err := checkFormat(opts.format, formatText, formatCommand, formatJSON, formatYAML); err != nil {
		return err
	}
	if opts.client != "" {
		return a.clientConfig(ctx, opts)
	}
	d, err := a.directTo(ctx, opts.route)
	if err != nil {
		return err
	}
	c := connectionConfig{
		Name: d.database, Host: d.host, Address: d.address, Port: d.port, User: d.user, Database: d.name,
		CA: d.ca, Cert: d.files.CertFile(), Key: d.files.KeyFile(), KeyDER: d.files.KeyDERFile(),
	}
	return a.write(opts.format, c, func() error {
		if opts.format == formatCommand {
			_, err := fmt.Fprintln(a.Out, "psql", shellQuote(connectionString(d.conninfo())))
			return err
		}
		_, err := fmt.Fprintf(a.Out, "Name:     %s\nHost:     %s\nAddress:  %s\nPort:     %s\nUser:     %s\nDatabase: %s\nCA:       %s\nCert:     %s\nKey:      %s\nKey DER:  %s\n",
			c.Name, c.Host, c.Address, c.Port, c.User, c.Database, c.CA, c.Cert, c.Key, c.KeyDER)
		return err
	})
}
