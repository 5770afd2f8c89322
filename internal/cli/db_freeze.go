package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

type dbFreezeOptions struct {
	database string
	reason   string
}

func newDBFreeze(a *App) *cobra.Command {
	var opts dbFreezeOptions
	cmd := &cobra.Command{
		Use:   "freeze <database>",
		Short: "Switch automatic users of a database off at once",
		Long: `Switch automatic users of a database off at once, and keep its sessions: from now on nothing is written to the
server, so that a blue/green switchover or a restore can begin. New sessions that need an automatic user are
refused and read the reason. Accounts of sessions that end stay as they are until 'postern db unfreeze'.
For the hub's owner, on the hub's machine. It holds over restarts.`,
		Example: `  postern db freeze example --reason='upgrade until 14:00'
  postern db unfreeze example`,
		Args:              positional("DATABASE"),
		ValidArgsFunction: a.completeServed,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.database = args[0]
			return a.dbFreeze(cmd.Context(), opts)
		}),
	}
	cmd.Flags().StringVar(&opts.reason, "reason", "", "what people read who are refused")
	return cmd
}

func newDBUnfreeze(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "unfreeze <database>",
		Short: "Switch automatic users of a database on again",
		Long: `Switch automatic users of a database on again. Accounts whose last session has ended meanwhile are released
within seconds. For the hub's owner, on the hub's machine.`,
		Example: `  postern db unfreeze example
  postern db unfreeze example && postern db drift example   # what changed meanwhile`,
		Args:              positional("DATABASE"),
		ValidArgsFunction: a.completeServed,
		RunE:              a.run(func(cmd *cobra.Command, args []string) error { return a.dbUnfreeze(cmd.Context(), args[0]) }),
	}
}

func (a *App) dbFreeze(ctx context.Context, opts dbFreezeOptions) error {
	hub, err := a.control()
	if err != nil {
		return err
	}
	if _, err := api.FreezeDatabase().Call(ctx, hub, api.FreezeDatabaseRequest{Name: opts.database, Reason: opts.reason}); err != nil {
		return err
	}
	a.tell("automatic users of %s are switched off; its sessions go on", opts.database)
	return nil
}

func (a *App) dbUnfreeze(ctx context.Context, database string) error {
	hub, err := a.control()
	if err != nil {
		return err
	}
	if _, err := api.UnfreezeDatabase().Call(ctx, hub, api.UnfreezeDatabaseRequest{Name: database}); err != nil {
		return err
	}
	a.tell("automatic users of %s are switched on again", database)
	return nil
}
