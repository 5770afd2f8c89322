package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

type dbPlanOptions struct {
	database, user, dbName string
	dbRoles                []string
	format                 string
}

func newDBPlan(a *App) *cobra.Command {
	var opts dbPlanOptions
	cmd := &cobra.Command{
		Use:   "plan <database>",
		Short: "Show what a session would change in PostgreSQL, and why",
		Long: `Show what would be done in PostgreSQL if you connected now: every statement for the database user and for
the bundle of object permissions, and the reason for each. Nothing is done. A session that would be
refused is refused here with the same words.

With --user for somebody else: for the hub's owner, on the hub's machine.`,
		Example: `  postern db plan example --db-name=shop
  postern db plan example --user alice --db-name=shop --db-roles=reader --format=json`,
		Args:              positional("DATABASE"),
		ValidArgsFunction: a.completeDatabases,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.database = args[0]
			return a.dbPlan(cmd.Context(), opts)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.user, "user", "", "whose session (default: your own)")
	flags.StringVarP(&opts.dbName, "db-name", "n", "", "database name inside the server")
	flags.StringSliceVarP(&opts.dbRoles, "db-roles", "r", nil, "only these of the database roles (default: all)")
	formatFlag(cmd, &opts.format, formatText, formatJSON)
	return cmd
}

func (a *App) dbPlan(ctx context.Context, opts dbPlanOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON); err != nil {
		return err
	}
	if slices.Contains(opts.dbRoles, "") {
		return fault.New(fault.Invalid, "--db-roles has an empty name").WithHint("leave --db-roles out to get all of them")
	}
	plan, err := a.askPlan(ctx, api.PlanDatabaseRequest{Name: opts.database, User: opts.user, DatabaseName: opts.dbName, DatabaseRoles: opts.dbRoles})
	if err != nil {
		return err
	}
	return a.write(opts.format, plan, func() error { return a.writePlan(plan) })
}

// askPlan asks as the hub's owner about somebody, and as oneself otherwise.
func (a *App) askPlan(ctx context.Context, q api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error) {
	if q.User == "" {
		_, hub, err := a.connect()
		if err != nil {
			return api.PlanDatabaseResponse{}, err
		}
		defer hub.Close()
		return hub.PlanDatabase(ctx, q)
	}
	hub, err := a.control()
	if err != nil {
		return api.PlanDatabaseResponse{}, err
	}
	return api.PlanDatabase().Call(ctx, hub, q)
}

// writePlan prints a plan for people: statements that may be copied, reasons as comments.
func (a *App) writePlan(p api.PlanDatabaseResponse) error {
	var b strings.Builder
	for _, line := range []struct{ name, value string }{
		{"database user", p.DatabaseUser + planAccount(p)},
		{"database name", p.DatabaseName},
		{"provisioning", p.Mode},
		{"db roles", listOrNone(p.DatabaseRoles)},
		{"bundle", listOrNone(slices.DeleteFunc([]string{p.Bundle}, func(s string) bool { return s == "" }))},
	} {
		fmt.Fprintf(&b, "%-14s %s\n", line.name+":", printable(line.value))
	}
	b.WriteByte('\n')
	for _, step := range p.Steps {
		fmt.Fprintf(&b, "-- %s\n%s;\n", printable(step.Why), printable(step.SQL))
	}
	if len(p.Steps) == 0 {
		b.WriteString("nothing is to be done\n")
	}
	if p.Missing != "" {
		fmt.Fprintf(&b, "\nthe session would lack: %s\n  %s\n", printable(p.Missing), printable(p.MissingHint))
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}

func planAccount(p api.PlanDatabaseResponse) string {
	switch {
	case p.Sessions == 1:
		return " (1 session)"
	case p.Sessions > 1:
		return fmt.Sprintf(" (%d sessions)", p.Sessions)
	case p.Exists:
		return " (no session)"
	}
	return " (does not exist yet)"
}
