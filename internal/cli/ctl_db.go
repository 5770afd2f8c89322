package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func newCtlDB(a *App) *cobra.Command {
	return group("db", "Register database servers", "Register database servers.", newDBAdd(a))
}

type dbAddOptions struct {
	name            string
	uri             string
	auth            string
	admin           string
	defaultDatabase string
	passwordFile    string
	passwordEnv     string
	caFile          string
	trust           string
	noTLS           bool
	labels          map[string]string

	superuser         string
	superuserDatabase string
	apply             bool
}

func newDBAdd(a *App) *cobra.Command {
	var opts dbAddOptions
	cmd := &cobra.Command{
		Use:   "add [NAME]",
		Short: "Register a PostgreSQL server",
		Long: `Look at a PostgreSQL server, register it, and find what stands in the way of automatic users there. On
a terminal it asks for what is not given.

How the agent logs in is told from what the server asks for: a password (scram-sha-256) or a client certificate.
With passwords, the admin user gets a random one, which is kept in a file in the hub's data directory, unless
--password-file or --password-env says where it is.

What has to be done on the server is printed as SQL, or done with --superuser, after a question or with --apply.
The superuser's password is taken from PGPASSWORD or ~/.pgpass, or asked for, and is kept nowhere. Exit code 1
when something is left because of which sessions would be refused.`,
		Example: `  ` + a.path("db add") + `
  ` + a.path("db add") + ` shop --uri=db.example.com:5432 --superuser=postgres --apply
  ` + a.path("db add") + ` shop --uri=db.example.com:5432 | psql -h db.example.com -U postgres`,
		Args: positional("[NAME]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.name = optional(args)
			return a.dbAdd(cmd.Context(), opts)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.uri, "uri", "", "where the server is: host:port, or the directory of its Unix socket")
	flags.StringVar(&opts.auth, "auth", "", "how the agent logs in: password, certificate or iam (default: as the server asks)")
	flags.StringVar(&opts.admin, "admin", "", "database user that makes the others (default postern-admin)")
	flags.StringVar(&opts.defaultDatabase, "default-database", "", "where the admin user works (default: the database of the session)")
	flags.StringVar(&opts.passwordFile, "password-file", "", "file of the agent's machine with the admin user's password")
	flags.StringVar(&opts.passwordEnv, "password-env", "", "environment variable of the agent with the admin user's password")
	flags.StringVar(&opts.caFile, "ca-cert", "", "file with the authority that signed the server's certificate")
	flags.StringVar(&opts.trust, "trust", "", "trust the server's certificate if this is its fingerprint, sha256:…")
	flags.BoolVar(&opts.noTLS, "no-tls", false, "do without TLS, where nobody else can reach the network")
	flags.StringToStringVar(&opts.labels, "labels", nil, "labels of the database, as key=value,...")
	flags.StringVar(&opts.superuser, "superuser", "", "superuser that runs the SQL")
	flags.StringVar(&opts.superuserDatabase, "superuser-database", "postgres", "where the superuser logs in")
	flags.BoolVar(&opts.apply, "apply", false, "run the SQL as --superuser without asking")
	completeWith(cmd, "auth", "password", "certificate", "iam")
	cmd.MarkFlagsMutuallyExclusive("password-file", "password-env")
	cmd.MarkFlagsMutuallyExclusive("ca-cert", "trust", "no-tls")
	return cmd
}

// dbAddition is a server that is being registered.
type dbAddition struct {
	*App
	opts dbAddOptions
	hub  *api.Client

	db       *resource.Database
	endpoint resource.Endpoint
	seen     serverLook
	verifier string // of a password that was made up for the admin user; else empty
	super    *superuser

	printOnly bool     // nobody runs the SQL: it is printed
	printed   []string // so far
}

func (a *App) dbAdd(ctx context.Context, opts dbAddOptions) (err error) {
	hub, err := a.control()
	if err != nil {
		return err
	}
	add := &dbAddition{App: a, opts: opts, hub: hub}
	for _, step := range []func(context.Context) error{add.complete, add.look, add.findSuperuser, add.findSecret, add.prepare, add.register, add.repair} {
		if err = step(ctx); err != nil {
			break
		}
	}
	return errors.Join(err, add.super.close(ctx))
}

// complete asks for what is missing, and makes the resource of it.
func (add *dbAddition) complete(ctx context.Context) error {
	o := &add.opts
	if o.apply && o.superuser == "" {
		return fault.New(fault.Invalid, "--apply needs --superuser")
	}
	for _, question := range []struct {
		into         *string
		flag, prompt string
		otherwise    string
	}{
		{&o.uri, "--uri", "Where is the server (host:port, or the directory of its Unix socket)?", "localhost:5432"},
		{&o.name, "NAME", "What shall people call it?", ""},
		{&o.admin, "--admin", "Database user that makes the others?", "postern-admin"},
	} {
		if *question.into != "" {
			continue
		}
		if add.AskLine == nil {
			if *question.into = question.otherwise; question.otherwise == "" || question.flag == "--uri" {
				return fault.Newf(fault.Invalid, "%s is missing", question.flag).WithHint(add.path("db add") + " shop --uri=db.example.com:5432")
			}
			continue
		}
		text, err := add.askLine(ctx, question.prompt, question.otherwise)
		if err != nil {
			return err
		}
		*question.into = text
	}
	if err := add.describe(); err != nil {
		return err
	}
	if err := add.checkName(ctx); err != nil {
		return err
	}
	return add.checkServed(ctx)
}

// checkName refuses a name that is taken, before anything is done.
func (add *dbAddition) checkName(ctx context.Context) error {
	taken, err := api.ListResources().Call(ctx, add.hub, api.ListResourcesRequest{Kind: resource.KindDatabase, Name: add.opts.name})
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound, err == nil && len(taken.Resources) == 0:
		return nil
	case err != nil:
		return err
	}
	return fault.Newf(fault.Conflict, "db %q already exists", add.opts.name).
		WithHint("choose another name, change it with '" + add.path("edit") + " db/" + add.opts.name + "', or remove it first")
}

// checkServed refuses a database that no agent would serve, before anything is done.
func (add *dbAddition) checkServed(ctx context.Context) error {
	request, err := add.request()
	if err != nil {
		return err
	}
	request.Check = true
	checked, err := api.PutResources().Call(ctx, add.hub, request)
	if err != nil || len(checked.Warnings) == 0 {
		return err
	}
	return fault.New(fault.Conflict, strings.Join(checked.Warnings, "; ")).
		WithHint(`choose another name, or let the agent serve what is registered: write resources: [{labels: {"*": "*"}}] below db_service ` +
			`in its configuration file, and restart it`)
}

// askLine asks for a line; an empty answer means what stands in brackets.
func (a *App) askLine(ctx context.Context, prompt, otherwise string) (string, error) {
	if otherwise != "" {
		prompt += " [" + otherwise + "]"
	}
	text, err := a.AskLine(ctx, printable(prompt)+" ")
	return cmp.Or(text, otherwise), err
}

// agreed asks for consent; nobody to ask is no consent.
func (a *App) agreed(ctx context.Context, prompt string) (bool, error) {
	if a.AskLine == nil {
		return false, nil
	}
	text, err := a.AskLine(ctx, printable(prompt)+" [y/N] ")
	return strings.EqualFold(text, "y") || strings.EqualFold(text, "yes"), err
}

// describe makes the resource, without what only the server can tell.
func (add *dbAddition) describe() error {
	o := add.opts
	d := &resource.Database{
		Kind: resource.KindDatabase, Version: "v3", Metadata: resource.Metadata{Name: o.name, Labels: o.labels},
		Spec: resource.DatabaseSpec{
			Protocol: resource.ProtocolPostgres, URI: o.uri, AdminUser: resource.AdminUser{Name: o.admin, DefaultDatabase: o.defaultDatabase},
		},
	}
	if o.auth != "" {
		if err := d.Spec.Auth.UnmarshalText([]byte(o.auth)); err != nil {
			return err
		}
	}
	if o.noTLS {
		d.Spec.TLS.Mode = resource.TLSDisable
	}
	if o.caFile != "" {
		pem, err := add.readResourceFile(o.caFile)
		if err != nil {
			return err
		}
		d.Spec.TLS.CACert = string(pem)
	}
	if err := resource.Validate(d); err != nil {
		return err
	}
	endpoint, err := d.Endpoint()
	add.db, add.endpoint = d, endpoint
	return err
}

// register makes the database known to the hub.
func (add *dbAddition) register(ctx context.Context) error {
	request, err := add.request()
	if err != nil {
		return err
	}
	return add.put(ctx, request)
}

// request is what registers the database as it is known so far.
func (add *dbAddition) request() (api.PutResourcesRequest, error) {
	if err := resource.Validate(add.db); err != nil {
		return api.PutResourcesRequest{}, err
	}
	body, err := json.Marshal(add.db)
	if err != nil {
		return api.PutResourcesRequest{}, fmt.Errorf("encode the database: %w", err)
	}
	return api.PutResourcesRequest{Resources: []api.Resource{{Kind: resource.KindDatabase, Name: add.db.GetName(), Body: body}}}, nil
}
