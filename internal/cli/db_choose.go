package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
)

// routeOptions say which database, and as whom in it.
type routeOptions struct {
	name string // of the database; may be empty
	selection

	dbUser  string
	dbName  string
	dbRoles []string
}

func (o *routeOptions) addFlags(a *App, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&o.dbUser, "db-user", "u", "", "database user to connect as (default: your own name where accounts are made for you)")
	flags.StringVarP(&o.dbName, "db-name", "n", "", "database name inside the server")
	flags.StringSliceVarP(&o.dbRoles, "db-roles", "r", nil, "only these of the database roles that you get (default: all)")
	o.selection.addFlags(flags)
	if err := cmd.RegisterFlagCompletionFunc("db-roles", a.completeRoles); err != nil {
		panic(err) // the flag is three lines above
	}
	cmd.ValidArgsFunction = a.completeDatabases
}

// target is a database chosen, with the route to it, and whose login chose it.
type target struct {
	database api.Database
	route    identity.Route
	home     *client.Home
	hub      *client.Hub
}

// choose finds the database that the options mean and completes the route to it
// from what the user is logged in to and may do. The caller closes the hub.
func (a *App) choose(ctx context.Context, o routeOptions) (target, error) {
	home, hub, err := a.connect()
	if err != nil {
		return target{}, err
	}
	t, err := a.chooseAt(ctx, home, hub, o)
	if err != nil {
		hub.Close()
	}
	return t, err
}

func (a *App) chooseAt(ctx context.Context, home *client.Home, hub *client.Hub, o routeOptions) (target, error) {
	if slices.Contains(o.dbRoles, "") {
		return target{}, fault.New(fault.Invalid, "--db-roles has an empty name").WithHint("leave --db-roles out to get all of them")
	}
	active, err := home.ActiveDatabases(hub.Profile)
	if err != nil {
		return target{}, err
	}
	var at identity.Route // where the user is logged in already
	if o.name == "" && !o.any() {
		if at, err = soleActive(active); err != nil {
			return target{}, err
		}
		o.name = at.Database
	} else if !o.any() {
		for _, d := range active {
			if d.Route.Database == o.name {
				at = d.Route
			}
		}
	}
	database, err := a.findDatabase(ctx, hub, o)
	if err != nil {
		return target{}, err
	}
	route, err := completeRoute(database, o, at)
	if err != nil {
		return target{}, err
	}
	if !database.Provisioning && len(route.DatabaseRole) > 0 {
		a.warn("database %s does not make accounts, so --db-roles is ignored", quote(database.Name))
		route.DatabaseRole = nil
	}
	return target{database, route, home, hub}, nil
}

// soleActive returns the only database that the user is logged in to.
func soleActive(active []*client.DatabaseCertificate) (identity.Route, error) {
	switch len(active) {
	case 0:
		return identity.Route{}, fault.New(fault.Invalid, "which database?").
			WithHint("give its name, or log in to it once with 'postern db login NAME'; 'postern db ls' lists them")
	case 1:
		return active[0].Route, nil
	}
	var names []string
	for _, d := range active {
		names = append(names, d.Route.Database)
	}
	return identity.Route{}, fault.Newf(fault.Invalid, "multiple databases are available (%s), please specify one by name, --labels or --query", strings.Join(names, ", "))
}

// findDatabase asks the hub for the one database that the options mean.
func (a *App) findDatabase(ctx context.Context, hub *client.Hub, o routeOptions) (api.Database, error) {
	found, err := hub.Databases(ctx, api.ListDatabasesRequest{Name: o.name, Labels: o.labels, Query: o.query})
	if err != nil {
		return api.Database{}, err
	}
	switch len(found) {
	case 0:
		return api.Database{}, fault.Newf(fault.NotFound, "%s not found, or you have no access to it", selector(o)).
			WithHint("'" + a.name + " db ls' lists the databases that you may use")
	case 1:
		return found[0], nil
	}
	var names []string
	for _, d := range found {
		names = append(names, d.Name)
	}
	return api.Database{}, fault.Newf(fault.Invalid, "%s matches multiple databases", selector(o)).
		WithDetail(strings.Join(names, "\n")).WithHint("give the name of one")
}

// selector describes what was asked for.
func selector(o routeOptions) string {
	text := "database"
	if o.name != "" {
		text += " " + quote(o.name)
	}
	if len(o.labels) > 0 {
		text += fmt.Sprintf(" with labels %q", labelText(o.labels))
	}
	if o.query != "" {
		text += fmt.Sprintf(" with query (%s)", o.query)
	}
	return text
}

func labelText(labels map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	return strings.Join(pairs, ",")
}

// completeRoute decides user, name and roles: what the options say, else what
// the user logged in with, else the only one that policy allows. Where accounts
// are provisioned the user stays open, because the hub knows the right name.
func completeRoute(d api.Database, o routeOptions, at identity.Route) (identity.Route, error) {
	route := identity.Route{Database: d.Name, DatabaseUser: at.DatabaseUser, DatabaseName: at.DatabaseName, DatabaseRole: at.DatabaseRole}
	if o.dbUser != "" {
		route.DatabaseUser = o.dbUser
	}
	if o.dbName != "" {
		route.DatabaseName = o.dbName
	}
	if o.dbRoles != nil {
		route.DatabaseRole = o.dbRoles
	}
	if !d.Provisioning && route.DatabaseUser == "" {
		if route.DatabaseUser = sole(d.Users); route.DatabaseUser == "" {
			return route, mustChoose(d.Name, "user", "users", d.Users)
		}
	}
	if route.DatabaseName == "" {
		route.DatabaseName = sole(d.Names) // else the program or the hub's default decides
	}
	return route, nil
}

// sole returns the only name of a set, or "".
func sole(set api.Allowance) string {
	if len(set.Allowed) == 1 && set.Allowed[0] != "*" {
		return set.Allowed[0]
	}
	return ""
}

// mustChoose is the error for a name that has to be given.
func mustChoose(database, one, many string, set api.Allowance) error {
	if len(set.Allowed) == 0 {
		return fault.Newf(fault.Denied, "you are not allowed access to any database %s of %s", one, quote(database))
	}
	return fault.Newf(fault.Invalid, "please provide the database %s using the --db-%s flag, allowed database %s for %s: %s",
		one, one, many, database, allowanceText(set))
}

// allowanceText writes a set of names: [a b], [*] except [c], (none).
func allowanceText(set api.Allowance) string {
	if len(set.Allowed) == 0 {
		return "(none)"
	}
	text := "[" + strings.Join(set.Allowed, " ") + "]"
	if len(set.Denied) > 0 {
		text += ", except: [" + strings.Join(set.Denied, " ") + "]"
	}
	return text
}
