package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

type statusOptions struct{ format string }

// loginStatus is one login as status shows it.
type loginStatus struct {
	Active    bool             `json:"active"`
	Address   string           `json:"address"`
	Cluster   string           `json:"cluster"`
	User      string           `json:"user"`
	Roles     []string         `json:"roles"`
	Expires   time.Time        `json:"expires"`
	Expired   bool             `json:"expired"`
	Databases []activeDatabase `json:"databases,omitempty"`
}

// activeDatabase is a database that a login is logged in to.
type activeDatabase struct {
	Name         string   `json:"name"`
	DatabaseUser string   `json:"db_user,omitempty"`
	DatabaseName string   `json:"db_name,omitempty"`
	Roles        []string `json:"db_roles,omitempty"`
}

func activeOf(c *client.DatabaseCertificate) activeDatabase {
	return activeDatabase{
		Name:         c.Route.Database,
		DatabaseUser: cmp.Or(c.Route.DatabaseUser, c.DatabaseUser),
		DatabaseName: cmp.Or(c.Route.DatabaseName, c.DatabaseName),
		Roles:        c.Route.DatabaseRole,
	}
}

func (d activeDatabase) String() string {
	var facts []string
	if d.DatabaseUser != "" {
		facts = append(facts, "user: "+d.DatabaseUser)
	}
	if d.DatabaseName != "" {
		facts = append(facts, "db: "+d.DatabaseName)
	}
	if d.Roles != nil {
		facts = append(facts, "roles: "+strings.Join(d.Roles, " "))
	}
	if facts == nil {
		return d.Name
	}
	return d.Name + " (" + strings.Join(facts, ", ") + ")"
}

func newStatus(a *App) *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who is logged in where",
		Long: `Show the logins of this machine, the active one first, without asking the hub. The exit code
is 4 when the active login has expired or there is none.`,
		Example: `  ` + a.name + ` status
  ` + a.name + ` status --format=json`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), opts) }),
	}
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) status(_ context.Context, opts statusOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	home, err := a.home()
	if err != nil {
		return err
	}
	current, err := home.Current()
	if fault.KindOf(err) == fault.Unauthenticated && opts.format != formatText { // programs get a list even so
		return errors.Join(a.write(opts.format, []loginStatus{}, nil), err)
	}
	if err != nil {
		return err
	}
	all, err := loginStatuses(home, current)
	if err != nil {
		return err
	}
	if err := a.write(opts.format, all, func() error { return a.writeStatus(all) }); err != nil {
		return err
	}
	if home.Expired(current) {
		return fault.Newf(fault.Unauthenticated, "the login at %s has expired", current.Address).WithHint(current.LoginHint())
	}
	return nil
}

// loginStatuses describes every login, that of current first.
func loginStatuses(home *client.Home, current *client.Profile) ([]loginStatus, error) {
	profiles, err := home.Profiles()
	if err != nil {
		return nil, err
	}
	all := make([]loginStatus, 1, len(profiles)+1)
	for _, p := range profiles {
		s := loginStatus{
			Active: p.Address == current.Address, Address: p.Address, Cluster: p.Cluster, User: p.User,
			Roles: p.Roles, Expires: p.Expires, Expired: home.Expired(p),
		}
		databases, err := home.ActiveDatabases(p)
		if err != nil {
			return nil, err
		}
		for _, d := range databases {
			s.Databases = append(s.Databases, activeOf(d))
		}
		if s.Active {
			all[0] = s
		} else {
			all = append(all, s)
		}
	}
	return all, nil
}

func (a *App) writeStatus(all []loginStatus) error {
	for i, s := range all {
		mark := "  "
		if s.Active {
			mark = "> "
		}
		if i > 0 {
			fmt.Fprintln(a.Out)
		}
		line := func(mark, key, value string) { fmt.Fprintf(a.Out, "%s%-13s%s\n", mark, key+":", printable(value)) }
		line(mark, "Hub", s.Address)
		line("  ", "Cluster", s.Cluster)
		line("  ", "User", s.User)
		line("  ", "Roles", strings.Join(s.Roles, ", "))
		var databases []string
		for _, d := range s.Databases {
			databases = append(databases, d.String())
		}
		if databases != nil {
			line("  ", "Databases", strings.Join(databases, ", "))
		}
		line("  ", "Valid until", s.Expires.Local().Format("2006-01-02 15:04:05 MST")+" ["+left(s.Expires, time.Now())+"]")
	}
	return nil
}
