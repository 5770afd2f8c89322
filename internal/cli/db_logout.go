package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
)

type dbLogoutOptions struct {
	name string
	selection
}

func newDBLogout(a *App) *cobra.Command {
	var opts dbLogoutOptions
	cmd := &cobra.Command{
		Use:   "logout [NAME]",
		Short: "Log out of a database",
		Long:  "Remove the certificates and the service file section of a database, or of every database that you are logged in to.",
		Example: `  ` + a.name + ` db logout example
  ` + a.name + ` db logout --labels=env=prod`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.name = optional(args)
			return a.dbLogout(cmd.Context(), opts)
		}),
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

func (a *App) dbLogout(ctx context.Context, opts dbLogoutOptions) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	p, err := a.profile(home, "")
	if err != nil {
		return err
	}
	active, err := home.ActiveDatabases(p)
	if err != nil {
		return err
	}
	services, err := a.serviceFile()
	if err != nil {
		return err
	}
	names, err := a.loggedIn(ctx, active, opts)
	if err != nil {
		return err
	}
	for _, name := range names {
		ours := func(cert string) bool { return cert == certificateFile(active, name) }
		if err := errors.Join(home.LogOutOfDatabase(p, name), services.Remove(ours)); err != nil {
			return err
		}
		a.tell("logged out of database %s", quote(name))
	}
	return nil
}

// loggedIn returns the databases to log out of: the one that is named, or those that
// are selected, or all. Only the hub knows labels.
func (a *App) loggedIn(ctx context.Context, active []*client.DatabaseCertificate, opts dbLogoutOptions) ([]string, error) {
	if opts.name != "" && !opts.any() {
		return []string{opts.name}, nil
	}
	var names []string
	for _, d := range active {
		names = append(names, d.Route.Database)
	}
	if !opts.any() {
		return names, nil
	}
	_, hub, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	selected, err := hub.Databases(ctx, api.ListDatabasesRequest{Name: opts.name, Labels: opts.labels, Query: opts.query})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(selected, func(d api.Database) bool { return d.Name == name })
	}), nil
}

func certificateFile(active []*client.DatabaseCertificate, name string) string {
	for _, d := range active {
		if d.Route.Database == name {
			return d.File
		}
	}
	return ""
}
