package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

func newDiscovery(a *App) *cobra.Command {
	cmd := group("discovery", "See what discovery finds in Amazon's cloud",
		"See what db_service.aws and discovery_service of the hub's configuration file find in Amazon's cloud.")
	cmd.AddCommand(newDiscoveryPreview(a))
	return cmd
}

func newDiscoveryPreview(a *App) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "preview",
		Short: "Show what discovery would register now",
		Long: `Ask Amazon now, with the credentials of the running hub, and show which databases discovery would register
under which names, which it would not and why, and what could not be asked. Nothing is changed.

Exit code 1 when a search fails.`,
		Example: `  ` + a.path("discovery preview") + `
  ` + a.path("discovery preview") + ` --format=yaml`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.discoveryPreview(cmd.Context(), format) }),
	}
	formatFlag(cmd, &format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) discoveryPreview(ctx context.Context, format string) error {
	if err := checkFormat(format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	found, err := api.PreviewDiscovery().Call(ctx, hub, api.Empty{})
	if err != nil {
		return err
	}
	if err := a.write(format, found, func() error { return a.writeDiscovery(found.Searches) }); err != nil {
		return err
	}
	for _, s := range found.Searches {
		if s.Error != "" {
			return statusError(exitFailed)
		}
	}
	return nil
}

func (a *App) writeDiscovery(searches []api.DiscoverySearch) error {
	if len(searches) == 0 {
		_, err := fmt.Fprintln(a.Out, "nothing is to be discovered: the configuration file has neither db_service.aws nor discovery_service.aws")
		return err
	}
	for i, s := range searches {
		if i > 0 {
			fmt.Fprintln(a.Out)
		}
		fmt.Fprintf(a.Out, "%s: %d databases\n", printable(s.Search), len(s.Databases))
		if s.Error != "" {
			a.warn("%s: %s: %s", printable(s.Search), printable(s.Error), printable(s.Detail))
			if s.Hint != "" {
				a.say("hint", printable(s.Hint))
			}
		}
		if len(s.Databases) > 0 {
			g := &grid{head: []string{"Name", "URI", "Admin user", "Writer"}, cut: -1}
			for _, d := range s.Databases {
				admin := d.AdminUser
				if admin == "" {
					admin = "(none: no automatic users)"
				}
				g.add(d.Name, d.URI, admin, d.Writer)
			}
			if err := a.writeGrid(g); err != nil {
				return err
			}
		}
		for _, skipped := range s.Skipped {
			fmt.Fprintf(a.Out, "not registered: %s: %s\n", printable(skipped.Name), printable(skipped.Why))
		}
	}
	return nil
}
