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
	query   string
	verbose bool
	all     bool
	format  string
}

// listedDatabase is a database with where it was found. The two fields are empty
// unless every login was asked.
type listedDatabase struct {
	Proxy   string `json:"proxy,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	api.Database

	self   string                        // who is logged in there
	active []*client.DatabaseCertificate // and to which databases
}

func newDBList(a *App) *cobra.Command {
	var opts dbListOptions
	cmd := &cobra.Command{
		Use:   "ls [key=value,...]",
		Short: "List the databases that you may use",
		Long: `List the databases that you may use, with the database users allowed in each and, with -v, the
database roles that you get. A database that you are logged in to is marked with ">".`,
		Example: `  ` + a.name + ` db ls -v
  ` + a.name + ` db ls env=prod --search=orders --format=json
  ` + a.name + ` db ls --all --query='labels["env"] == "prod" || labels["team"] == "shop"'`,
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
	cmd.Flags().StringVar(&opts.query, "query", "", "only databases whose labels make this expression true")
	cmd.Flags().BoolVarP(&opts.all, "all", "R", false, "of every hub that you are logged in to")
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
	databases, err := a.listDatabases(ctx, opts)
	if err != nil {
		return err
	}
	return a.write(opts.format, databases, func() error { return a.writeGrid(databaseGrid(a.name, databases, opts)) })
}

// listDatabases asks the hub of the login in use, or of every login. It never
// returns nil: programs get a list even when it is empty.
func (a *App) listDatabases(ctx context.Context, opts dbListOptions) ([]listedDatabase, error) {
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	var profiles []*client.Profile
	if opts.all {
		profiles, err = home.Profiles()
	} else {
		var one *client.Profile
		one, err = a.profile(home, "")
		profiles = []*client.Profile{one}
	}
	if err != nil {
		return nil, err
	}
	all := []listedDatabase{}
	for _, p := range profiles {
		if opts.all && home.Expired(p) {
			a.warn("the login at %s has expired", p.Address)
			continue
		}
		found, err := databasesOf(ctx, home, p, opts)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func databasesOf(ctx context.Context, home *client.Home, p *client.Profile, opts dbListOptions) ([]listedDatabase, error) {
	hub, err := home.Connect(p)
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	databases, err := hub.Databases(ctx, api.ListDatabasesRequest{Labels: opts.labels, Search: opts.search, Query: opts.query})
	if err != nil {
		return nil, err
	}
	active, err := home.ActiveDatabases(p)
	if err != nil {
		return nil, err
	}
	var all []listedDatabase
	for _, d := range databases {
		listed := listedDatabase{Database: d, self: p.User, active: active}
		if opts.all {
			listed.Proxy, listed.Cluster = p.Address, p.Cluster
		}
		all = append(all, listed)
	}
	return all, nil
}

// databaseGrid is the table of db ls.
func databaseGrid(program string, databases []listedDatabase, opts dbListOptions) *grid {
	g := &grid{head: []string{"Name", "Description", "Allowed Users", "Labels", "Connect"}, cut: 3}
	if opts.verbose {
		g.head = []string{"Name", "Description", "Protocol", "Type", "URI", "Allowed Users", "Database Roles", "Labels", "Connect"}
	}
	if opts.all {
		g.head = append([]string{"Proxy", "Cluster"}, g.head...)
		g.cut += 2
	}
	if opts.verbose {
		g.cut = -1
	}
	for _, d := range databases {
		name, connect := d.Name, ""
		if i := slices.IndexFunc(d.active, func(c *client.DatabaseCertificate) bool { return c.Route.Database == d.Name }); i >= 0 {
			name = "> " + activeOf(d.active[i]).String()
			connect = program + " db connect " + d.Name
		}
		users := allowanceText(d.Users)
		if d.Provisioning {
			users = "[" + d.self + "]"
			if d.Frozen != nil {
				users += " (frozen)"
			}
		}
		cells := []string{name, d.Description, users, labelText(d.Labels), connect}
		if opts.verbose {
			roles := "" // none can be given here
			if d.Provisioning {
				roles = allowanceText(api.Allowance{Allowed: d.Roles})
			}
			cells = []string{name, d.Description, d.Protocol, d.Type, d.URI, users, roles, labelText(d.Labels), connect}
		}
		if opts.all {
			cells = append([]string{d.Proxy, d.Cluster}, cells...)
		}
		g.add(cells...)
	}
	return g
}
