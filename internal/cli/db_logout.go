package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
)

type dbLogoutOptions struct{ name string }

func newDBLogout(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [NAME]",
		Short: "Log out of a database",
		Long:  "Remove the certificates and the service file section of a database, or of every database that you are logged in to.",
		Example: `  ` + a.name + ` db logout example
  ` + a.name + ` db logout`,
		Args: positional("[NAME]"),
		RunE: a.run(func(_ *cobra.Command, args []string) error {
			var opts dbLogoutOptions
			if len(args) > 0 {
				opts.name = args[0]
			}
			return a.dbLogout(opts)
		}),
	}
}

func (a *App) dbLogout(opts dbLogoutOptions) error {
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
	names := []string{opts.name}
	if opts.name == "" {
		names = names[:0]
		for _, d := range active {
			names = append(names, d.Route.Database)
		}
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

func certificateFile(active []*client.DatabaseCertificate, name string) string {
	for _, d := range active {
		if d.Route.Database == name {
			return d.File
		}
	}
	return ""
}
