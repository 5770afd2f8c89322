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
	"github.com/postern-db/postern/internal/resource"
)

func newUsers(a *App) *cobra.Command {
	return group("users", "Manage users", "Add, list, remove and reset the users who may log in.",
		newUsersAdd(a), newUsersList(a), newUsersRemove(a), newUsersReset(a))
}

// passwordOptions say whose password is set, and where it is; without a file the
// person gets an invitation to set it.
type passwordOptions struct {
	name         string
	passwordFile string
	format       string
}

func (o *passwordOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.passwordFile, "password-file", "", "set the password from this file, - for standard input")
	formatFlag(cmd, &o.format, formatText, formatJSON)
}

type usersAddOptions struct {
	passwordOptions

	roles   []string
	dbRoles []string
	dbNames []string
	dbUsers []string
}

func newUsersAdd(a *App) *cobra.Command {
	var opts usersAddOptions
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `Add a user and print a one-time invitation, with which the person sets a password; or set the
password at once with --password-file. The --db- flags are traits, which roles use in templates
such as {{internal.db_roles}}.`,
		Example: `  ` + a.path("users add") + ` alice --roles=auto-db-users
  ` + a.path("users add") + ` bob --roles=auto-db-users --db-roles=writer --password-file=secret.txt`,
		Args: positional("NAME"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.name = args[0]
			return a.usersAdd(cmd.Context(), opts)
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&opts.roles, "roles", nil, "roles of the user (required)")
	flags.StringSliceVar(&opts.dbRoles, "db-roles", nil, "trait db_roles")
	flags.StringSliceVar(&opts.dbNames, "db-names", nil, "trait db_names")
	flags.StringSliceVar(&opts.dbUsers, "db-users", nil, "trait db_users")
	opts.addFlags(cmd)
	if err := cmd.MarkFlagRequired("roles"); err != nil {
		panic(err) // the flag is a few lines above
	}
	return cmd
}

func (a *App) usersAdd(ctx context.Context, opts usersAddOptions) error {
	req := api.AddUserRequest{Name: opts.name, Roles: opts.roles, Traits: map[string][]string{}}
	for trait, values := range map[string][]string{"db_roles": opts.dbRoles, "db_names": opts.dbNames, "db_users": opts.dbUsers} {
		if values != nil {
			req.Traits[trait] = values
		}
	}
	return a.setPassword(ctx, opts.passwordOptions, "user %s added", func(hub *api.Client, password string) (api.InvitationResponse, error) {
		req.Password = password
		return api.AddUser().Call(ctx, hub, req)
	})
}

// setPassword reads the password, if there is one, does what it is for, and prints
// what was done and the invitation, if there is one.
func (a *App) setPassword(ctx context.Context, o passwordOptions, done string, do func(hub *api.Client, password string) (api.InvitationResponse, error)) error {
	if err := checkFormat(o.format, formatText, formatJSON); err != nil {
		return err
	}
	var password client.Secret
	if o.passwordFile != "" {
		var err error
		if password, err = a.readPasswordFile(o.passwordFile); err != nil {
			return err
		}
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	resp, err := do(hub, string(password))
	if err != nil {
		return err
	}
	a.tell(done, quote(o.name))
	return a.writeInvitation(ctx, hub, o.name, resp, o.format)
}

// invitation is what users add and users reset print for programs.
type invitation struct {
	User string `json:"user"`
	api.InvitationResponse
	Command string `json:"command,omitempty"`
}

// writeInvitation prints the command with which the person sets a password.
func (a *App) writeInvitation(ctx context.Context, hub *api.Client, user string, resp api.InvitationResponse, format string) error {
	out := invitation{User: user, InvitationResponse: resp}
	if resp.Invitation != "" {
		s, err := api.Status().Call(ctx, hub, api.Empty{})
		if err != nil {
			return err
		}
		out.Command = fmt.Sprintf("postern login --proxy=%s --ca-pin=%s --user=%s --invite=%s", s.Address, s.CAPin, shellQuote(user), resp.Invitation)
	}
	return a.write(format, out, func() error {
		if resp.Invitation == "" {
			a.tell("the password is set")
			return nil
		}
		a.tell("invitation, good once until %s; the person runs:", resp.Expires.Local().Format("2006-01-02 15:04 MST"))
		_, err := fmt.Fprintln(a.Out, out.Command)
		return err
	})
}

type usersListOptions struct{ format string }

func newUsersList(a *App) *cobra.Command {
	var opts usersListOptions
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List users",
		Long:  "List users with their roles and traits.",
		Example: `  ` + a.path("users ls") + `
  ` + a.path("users ls") + ` --format=json`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error {
			return a.get(cmd.Context(), getOptions{kind: resource.KindUser, format: opts.format})
		}),
	}
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func newUsersRemove(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove users",
		Long:  "Remove users and their passwords. Their sessions end.",
		Example: `  ` + a.path("users rm") + ` alice
  ` + a.path("users rm") + ` alice bob`,
		Args: positional("NAME..."),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			var opts removeOptions
			for _, name := range args {
				opts.refs = append(opts.refs, resource.KindUser+"/"+name)
			}
			return a.remove(cmd.Context(), opts)
		}),
	}
}

func newUsersReset(a *App) *cobra.Command {
	var opts passwordOptions
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "Reset the password of a user",
		Long:  "Make the password of a user void and print a new one-time invitation, or set the password of --password-file.",
		Example: `  ` + a.path("users reset") + ` alice
  ` + a.path("users reset") + ` alice --password-file=secret.txt`,
		Args: positional("NAME"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.name = args[0]
			return a.usersReset(cmd.Context(), opts)
		}),
	}
	opts.addFlags(cmd)
	return cmd
}

func (a *App) usersReset(ctx context.Context, opts passwordOptions) error {
	return a.setPassword(ctx, opts, "the old password of %s is void", func(hub *api.Client, password string) (api.InvitationResponse, error) {
		return api.ResetUser().Call(ctx, hub, api.ResetUserRequest{Name: opts.name, Password: password})
	})
}

func traitText(traits map[string][]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(traits)) {
		words = append(words, key+": ["+strings.Join(traits[key], " ")+"]")
	}
	return strings.Join(words, ", ")
}
