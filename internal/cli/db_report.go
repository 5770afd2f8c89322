package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

// reportOptions are those of a command that has a server looked at.
type reportOptions struct {
	database string
	sql      bool // only the SQL that repairs what is found
	format   string
}

// reportCommand completes a command for the hub's owner that has a server looked at
// and prints what is found. report returns whether the command fails because of that.
func (a *App) reportCommand(cmd *cobra.Command, report func(context.Context, *api.Client, reportOptions) (bool, error)) *cobra.Command {
	var opts reportOptions
	cmd.Args = positional("DATABASE")
	cmd.ValidArgsFunction = a.completeServed
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		opts.database = args[0]
		if err := checkFormat(opts.format, formatText, formatJSON); err != nil {
			return err
		}
		hub, err := a.control()
		if err != nil {
			return err
		}
		fails, err := report(cmd.Context(), hub, opts)
		if err == nil && fails {
			err = statusError(exitFailed)
		}
		return err
	})
	cmd.Flags().BoolVar(&opts.sql, "sql", false, "print only the SQL that repairs what is found, to be run as superuser")
	formatFlag(cmd, &opts.format, formatText, formatJSON)
	cmd.MarkFlagsMutuallyExclusive("sql", "format")
	return cmd
}

// completeServed offers the names of the databases that the hub's agents serve.
func (a *App) completeServed(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	hub, err := a.control()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	status, err := api.Status().Call(ctx, hub, api.Empty{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, d := range status.Databases {
		names = append(names, printable(d.Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
