package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

type removeOptions struct{ refs []string }

func newRemove(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "rm KIND/NAME...",
		Short: "Remove resources",
		Long:  "Remove resources. With a user goes the password; sessions that depended on what is removed end.",
		Example: `  ` + a.path("rm") + ` role/auto-db-users
  ` + a.path("rm") + ` db/example user/alice`,
		Args: positional("KIND/NAME..."),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			return a.remove(cmd.Context(), removeOptions{args})
		}),
	}
}

func (a *App) remove(ctx context.Context, opts removeOptions) error {
	var reqs []api.DeleteResourceRequest
	for _, ref := range opts.refs {
		kind, name, err := parseFullRef(ref)
		if err != nil {
			return err
		}
		reqs = append(reqs, api.DeleteResourceRequest{Kind: kind, Name: name})
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	for _, req := range reqs {
		if _, err := api.DeleteResource().Call(ctx, hub, req); err != nil {
			return err
		}
		a.tell("%s %s removed", req.Kind, quote(req.Name))
	}
	return nil
}
