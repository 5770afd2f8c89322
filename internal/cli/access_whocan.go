package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

type whoCanOptions struct {
	database, databaseName, databaseUser string
	from                                 []string
	format                               string
}

func newAccessWhoCan(a *App) *cobra.Command {
	var opts whoCanOptions
	cmd := &cobra.Command{
		Use:   "who-can --database DATABASE",
		Short: "List who may connect to a database",
		Long:  "List the users who may connect to a database, as whom, and with which db roles.",
		Example: `  postern access who-can --database example
  postern access who-can --database example --db-name payroll --format=json`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.whoCan(cmd.Context(), opts) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.database, "database", "", "database (required)")
	flags.StringVarP(&opts.databaseName, "db-name", "n", "", "database name to connect to")
	flags.StringVarP(&opts.databaseUser, "db-user", "u", "", "database user to connect as")
	fromFlag(cmd, &opts.from)
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) whoCan(ctx context.Context, opts whoCanOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	if opts.database == "" {
		return misused(fault.New(fault.Invalid, "--database is needed"))
	}
	r, err := a.rules(ctx, opts.from)
	if err != nil {
		return err
	}
	database, err := r.database(opts.database)
	if err != nil {
		return err
	}
	answers := access.WhoCan(r.policy, r.users, access.Request{
		Database: database, DatabaseName: opts.databaseName, DatabaseUser: opts.databaseUser,
	})
	return a.write(opts.format, answers, func() error {
		g := &grid{head: []string{"User", "Outcome", "Accounts", "Database Users", "Database Names", "Database Roles"}, cut: -1}
		for _, w := range answers {
			g.add(w.User, w.Outcome.String(), w.Mode, strings.Join(w.DatabaseUsers, ", "), strings.Join(w.DatabaseNames, ", "), strings.Join(w.DatabaseRoles, ", "))
		}
		return a.writeGrid(g)
	})
}
