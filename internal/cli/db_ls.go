package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

type dbListOptions struct {
	labels  map[string]string
	search  []string
	verbose bool
	format  string
}

func newDBList(a *App) *cobra.Command {
	var opts dbListOptions
	cmd := &cobra.Command{
		Use:   "ls [key=value,...]",
		Short: "List the databases that you may use",
		Long: `List the databases that you may use, with the database users allowed in each and, with -v, the
database roles that you get. A database that you are logged in to is marked with ">".`,
		Example: `  ` + a.name + ` db ls -v
  ` + a.name + ` db ls env=prod --search=orders --format=json`,
		Args: positional("[key=value,...]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			var err error
			if len(args) > 0 {
				opts.labels, err = parseLabels(args[0])
			}
			if err != nil {
				return err
			}
			return a.dbList(cmd.Context(), opts)
		}),
	}
	cmd.Flags().BoolVarP(&opts.verbose, "verbose", "v", false, "also show protocol, type, address and database roles")
	cmd.Flags().StringSliceVar(&opts.search, "search", nil, "only databases whose name, description or labels contain every word")
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func parseLabels(text string) (map[string]string, error) {
	labels := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, misused(fault.Newf(fault.Invalid, "%q is not a label", pair).WithHint("write labels as key=value,key=value"))
		}
		labels[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return labels, nil
}

func (a *App) dbList(ctx context.Context, opts dbListOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	home, hub, err := a.connect()
	if err != nil {
		return err
	}
	defer hub.Close()
	databases, err := hub.Databases(ctx, api.ListDatabasesRequest{Labels: opts.labels, Search: opts.search})
	if err != nil {
		return err
	}
	if databases == nil {
		databases = []api.Database{} // a list for programs, even when empty
	}
	return a.write(opts.format, databases, func() error {
		active, err := home.ActiveDatabases(hub.Profile)
		if err != nil {
			return err
		}
		return a.writeGrid(databaseGrid(a.name, hub.Profile.User, databases, active, opts.verbose))
	})
}

// databaseGrid is the table of db ls.
func databaseGrid(program, self string, databases []api.Database, active []*client.DatabaseCertificate, verbose bool) *grid {
	g := &grid{head: []string{"Name", "Description", "Allowed Users", "Labels", "Connect"}, cut: 3}
	if verbose {
		g.head = []string{"Name", "Description", "Protocol", "Type", "URI", "Allowed Users", "Database Roles", "Labels", "Connect"}
		g.cut = -1
	}
	for _, d := range databases {
		name, connect := d.Name, ""
		if i := slices.IndexFunc(active, func(c *client.DatabaseCertificate) bool { return c.Route.Database == d.Name }); i >= 0 {
			name = "> " + activeOf(active[i]).String()
			connect = program + " db connect " + d.Name
		}
		users := allowanceText(d.Users)
		if d.Provisioning {
			users = "[" + self + "]"
			if d.Frozen != nil {
				users += " (frozen)"
			}
		}
		if !verbose {
			g.add(name, d.Description, users, labelText(d.Labels), connect)
			continue
		}
		roles := "" // none can be given here
		if d.Provisioning {
			roles = allowanceText(api.Allowance{Allowed: d.Roles})
		}
		g.add(name, d.Description, d.Protocol, d.Type, d.URI, users, roles, labelText(d.Labels), connect)
	}
	return g
}
