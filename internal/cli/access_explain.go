package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

type explainOptions struct {
	user, database, databaseName, databaseUser string
	databaseRoles                              []string
	from                                       []string
	format                                     string
}

func newAccessExplain(a *App) *cobra.Command {
	var opts explainOptions
	cmd := &cobra.Command{
		Use:   "explain --user USER --database DATABASE",
		Short: "Say what a user may do on a database, and why",
		Long: `Say whether a user may connect to a database, with which db roles and limits, and which role each
comes from; for a refusal, what was nearest to allowing it. A refusal exits with 1. What is left
open (--db-name, --db-user) may be anything that lets the user in.`,
		Example: `  postern access explain --user alice --database example
  postern access explain --user alice --database example --db-name app --from roles/ --format=json`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.explainAccess(cmd.Context(), opts) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.user, "user", "", "user (required)")
	flags.StringVar(&opts.database, "database", "", "database (required)")
	flags.StringVarP(&opts.databaseName, "db-name", "n", "", "database name to connect to")
	flags.StringVarP(&opts.databaseUser, "db-user", "u", "", "database user to connect as")
	flags.StringSliceVarP(&opts.databaseRoles, "db-roles", "r", nil, "db roles to ask for")
	fromFlag(cmd, &opts.from)
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) explainAccess(ctx context.Context, opts explainOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	if opts.user == "" || opts.database == "" {
		return misused(fault.New(fault.Invalid, "--user and --database are needed"))
	}
	r, err := a.rules(ctx, opts.from)
	if err != nil {
		return err
	}
	user, err := r.user(opts.user)
	if err != nil {
		return err
	}
	database, err := r.database(opts.database)
	if err != nil {
		return err
	}
	d := r.policy.Explain(access.Request{
		User: user.GetName(), Roles: user.Spec.Roles, Traits: user.Spec.Traits, Database: database,
		DatabaseUser: opts.databaseUser, DatabaseName: opts.databaseName, DatabaseRoles: opts.databaseRoles,
	})
	if err := a.write(opts.format, d, func() error { return a.tellDecision(opts, d) }); err != nil {
		return err
	}
	if d.Outcome != access.Allowed {
		return statusError(exitFailed)
	}
	return nil
}

// tellDecision prints a decision for people.
func (a *App) tellDecision(opts explainOptions, d access.Decision) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s on %s\n", d.Outcome, opts.user, opts.database)
	if err := d.Err(); err != nil {
		fmt.Fprintf(&b, "  %s\n", err)
		if hint := fault.Of(err).Hint; hint != "" {
			fmt.Fprintf(&b, "  %s\n", hint)
		}
	} else {
		fmt.Fprintf(&b, "  provisioning:   %s\n  database user:  %s\n  db roles:       %s\n", d.Mode, d.DatabaseUser, listOrNone(d.DatabaseRoles))
	}
	if len(d.Reasons) > 0 {
		b.WriteString("because\n")
	}
	for _, reason := range d.Reasons {
		who := "cluster"
		if reason.Role != "" {
			who = "role " + reason.Role
		}
		fmt.Fprintf(&b, "  %-11s %s: %s\n", reason.Effect, who, reason.Text)
	}
	_, err := fmt.Fprint(a.Out, printableText(b.String()))
	return err
}

func listOrNone(list []string) string {
	if len(list) == 0 {
		return "(none)"
	}
	return strings.Join(list, ", ")
}
