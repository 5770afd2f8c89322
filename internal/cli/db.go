package cli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
)

func newDB(a *App) *cobra.Command {
	cmd := group("db", "List databases and connect to them",
		"List the databases that you may use, and connect to them.",
		newDBList(a), newDBConnect(a), newDBLogin(a), newDBLogout(a), newDBEnv(a), newDBConfig(a))
	if a.name == programName { // they speak to the hub of this machine
		cmd.AddCommand(withHubFlags(newDBDoctor)(a), withHubFlags(newDBPlan)(a), withHubFlags(newDBDrift)(a),
			withHubFlags(newDBFreeze)(a), withHubFlags(newDBUnfreeze)(a))
	}
	return cmd
}

// connect prepares calls in the name of the login in use. The caller closes the hub.
func (a *App) connect() (*client.Home, *client.Hub, error) {
	home, err := a.home()
	if err != nil {
		return nil, nil, err
	}
	p, err := a.profile(home, "")
	if err != nil {
		return nil, nil, err
	}
	hub, err := home.Connect(p)
	return home, hub, err
}

// serviceFile is libpq's service file of this user.
func (a *App) serviceFile() (client.ServiceFile, error) {
	if path := a.Getenv("PGSERVICEFILE"); path != "" {
		return client.ServiceFile{Path: path}, nil
	}
	home, err := a.userHome()
	return client.ServiceFile{Path: filepath.Join(home, ".pg_service.conf")}, err
}

// completionTimeout bounds how long a shell waits for names.
const completionTimeout = 2 * time.Second

// completeDatabases offers the names of databases.
func (a *App) completeDatabases(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	_, hub, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer hub.Close()
	databases, err := hub.Databases(ctx, api.ListDatabasesRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, d := range databases {
		names = append(names, cobra.CompletionWithDesc(printable(d.Name), printable(d.Description)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeRoles offers the roles that policy hands out on the database named.
func (a *App) completeRoles(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	roles, err := a.rolesOf(cmd.Context(), args)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return roles, cobra.ShellCompDirectiveNoFileComp
}

func (a *App) rolesOf(ctx context.Context, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	_, hub, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	databases, err := hub.Databases(ctx, api.ListDatabasesRequest{Name: args[0]})
	if err != nil {
		return nil, err
	}
	if len(databases) == 0 {
		return nil, errors.New("no such database")
	}
	return databases[0].Roles, nil
}
