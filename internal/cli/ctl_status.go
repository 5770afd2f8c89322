package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

type hubStatusOptions struct{ format string }

func newHubStatus(a *App) *cobra.Command {
	var opts hubStatusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the running hub",
		Long:  "Show cluster, public address, CA pin, the parts that run, and the health of the databases served.",
		Example: `  ` + a.path("status") + `
  ` + a.path("status") + ` --format=json`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.hubStatus(cmd.Context(), opts) }),
	}
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) hubStatus(ctx context.Context, opts hubStatusOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	s, err := api.Status().Call(ctx, hub, api.Empty{})
	if err != nil {
		return err
	}
	return a.write(opts.format, s, func() error {
		fmt.Fprintf(a.Out, "Cluster:   %s\nAddress:   %s\nCA pin:    %s\nVersion:   %s\nParts:     %s\nSessions:  %d\n",
			s.Cluster, s.Address, s.CAPin, s.Version, strings.Join(s.Parts, ", "), s.Sessions)
		if len(s.Databases) == 0 {
			_, err := fmt.Fprintln(a.Out, "Databases: none")
			return err
		}
		fmt.Fprintln(a.Out)
		g := &grid{head: []string{"Database", "Status", "Message"}, cut: -1}
		for _, d := range s.Databases {
			status, message := d.Status, d.Message
			if d.Frozen != nil {
				status += ", frozen"
				if message == "" {
					message = d.Frozen.Reason
				}
			}
			g.add(d.Name, status, message)
		}
		return a.writeGrid(g)
	})
}
