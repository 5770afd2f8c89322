package cli

import (
	"cmp"
	"context"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/fault"
)

type loginOptions struct {
	proxy        string
	user         string
	pin          string
	passwordFile string
	invitation   string
	ttl          ttlValue
}

func newLogin(a *App) *cobra.Command {
	var opts loginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Log in to a hub",
		Long: `Log in to a hub. The password comes from --password-file, from POSTERN_PASSWORD, or is
asked for. A hub with a certificate of its own CA is recognised by its pin, which
'postern ctl status' shows on its machine; it is needed once.`,
		Example: `  ` + a.name + ` login --proxy=hub.example.com --user=alice
  ` + a.name + ` login --proxy=10.0.0.5:3080 --ca-pin=sha256:4f1c… --invite=TOKEN`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.login(cmd.Context(), opts) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.proxy, "proxy", "", "address of the hub, HOST[:PORT] (default $POSTERN_PROXY, else the hub of the last login)")
	flags.StringVar(&opts.user, "user", "", "name to log in with (default $POSTERN_USER, else the name of the last login there, else that of the system's user)")
	flags.Var(&opts.ttl, "ttl", "wanted lifetime of the login: 8h, 30d, or minutes (default: what the hub gives)")
	flags.StringVar(&opts.pin, "ca-pin", "", "pin of the hub's CA, sha256:HEX")
	flags.StringVar(&opts.passwordFile, "password-file", "", "file with the password, - for standard input")
	flags.StringVar(&opts.invitation, "invite", "", "one-time invitation: sets the password of a new account")
	return cmd
}

func (a *App) login(ctx context.Context, opts loginOptions) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	req, known, err := a.loginRequest(home, opts)
	if err != nil {
		return err
	}
	wanted := opts.passwordFile != "" || opts.invitation != "" || opts.ttl != 0 || a.Getenv("POSTERN_PASSWORD") != ""
	if known != nil && known.User == req.User && !home.Expired(known) && !wanted {
		a.tell("already logged in; 'postern logout' ends the login")
		return a.status(ctx, statusOptions{format: formatText})
	}
	if opts.passwordFile == "" && a.Getenv("POSTERN_PASSWORD") == "" && a.AskSecret != nil {
		if err := home.Check(ctx, req.Address, req.Pin); err != nil { // before somebody types for nothing
			return err
		}
	}
	who := req.User + " at " + req.Address
	if req.Invitation != "" {
		req.Password, err = a.newPassword(ctx, opts.passwordFile, who)
	} else {
		req.Password, err = a.password(ctx, opts.passwordFile, who)
	}
	if err != nil {
		return err
	}
	p, err := home.Login(ctx, req)
	if err != nil {
		return err
	}
	if known != nil && known.User != p.User { // their certificates are gone
		if err := a.forgetServices(home, p); err != nil {
			return err
		}
	}
	return a.status(ctx, statusOptions{format: formatText})
}

// loginRequest completes the options from the environment and the profile of an
// earlier login at the same hub, which it returns if there is one.
func (a *App) loginRequest(home *client.Home, opts loginOptions) (client.LoginRequest, *client.Profile, error) {
	req := client.LoginRequest{
		Address:    cmp.Or(opts.proxy, a.Getenv("POSTERN_PROXY")),
		User:       cmp.Or(opts.user, a.Getenv("POSTERN_USER")),
		Invitation: client.Secret(opts.invitation),
		TTL:        time.Duration(opts.ttl),
		Pin:        opts.pin,
	}
	if req.Address == "" {
		current, err := home.Current()
		if err != nil {
			return req, nil, misused(fault.New(fault.Invalid, "the address of the hub is missing").WithHint(a.name + " login --proxy=HOST:PORT --user=NAME"))
		}
		req.Address = current.Address
	}
	var err error
	if req.Address, err = client.ParseAddress(req.Address); err != nil {
		return req, nil, err
	}
	known, err := home.Profile(req.Address)
	if err != nil { // none, or a damaged one, which the login replaces
		known = nil
	}
	if req.User == "" && known != nil {
		req.User = known.User
	}
	if req.User == "" {
		own, err := user.Current()
		if err != nil {
			return req, nil, fault.Newf(fault.Invalid, "the name of the user is missing: %w", err).WithHint("add --user=NAME")
		}
		req.User = own.Username
	}
	return req, known, nil
}
