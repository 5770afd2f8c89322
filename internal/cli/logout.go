package cli

import (
	"cmp"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

type logoutOptions struct {
	proxy string
	all   bool
}

func newLogout(a *App) *cobra.Command {
	var opts logoutOptions
	cmd := &cobra.Command{
		Use:   "logout",
		Short: "Log out and remove keys and certificates",
		Long: `Remove the keys, the certificates and the entries in libpq's service file that belong to a
login. Sessions that are open stay open; the certificate itself ends with its lifetime.`,
		Example: `  ` + a.name + ` logout
  ` + a.name + ` logout --all`,
		Args: positional(),
		RunE: a.run(func(*cobra.Command, []string) error { return a.logout(opts) }),
	}
	cmd.Flags().StringVar(&opts.proxy, "proxy", "", "hub to log out from (default $POSTERN_PROXY, else that of the last login)")
	cmd.Flags().BoolVar(&opts.all, "all", false, "log out from every hub")
	return cmd
}

func (a *App) logout(opts logoutOptions) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	profiles, err := home.Profiles()
	if !opts.all {
		var one *client.Profile
		one, err = a.profile(home, opts.proxy)
		profiles = []*client.Profile{one}
	}
	if err != nil && fault.KindOf(err) == fault.Unauthenticated {
		a.tell("%s", err) // what was wanted is so
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range profiles {
		if err := errors.Join(a.forgetServices(home, p), home.Logout(p)); err != nil {
			return err
		}
		a.tell("logged out from %s", p.Address)
	}
	return nil
}

// forgetServices removes the sections of libpq's service file that use the
// certificates of a login.
func (a *App) forgetServices(home *client.Home, p *client.Profile) error {
	services, err := a.serviceFile()
	if err != nil {
		return err
	}
	keys := filepath.Dir(home.HostCAFile(p)) + string(filepath.Separator)
	return services.Remove(func(cert string) bool { return strings.HasPrefix(cert, keys) })
}

// profile returns the profile of a hub: the one named, else that of
// $POSTERN_PROXY, else the active one.
func (a *App) profile(home *client.Home, address string) (*client.Profile, error) {
	if address = cmp.Or(address, a.Getenv("POSTERN_PROXY")); address != "" {
		return home.Profile(address)
	}
	return home.Current()
}
