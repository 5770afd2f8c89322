package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

type dbDoctorOptions struct {
	database string
	sql      bool
	format   string
}

func newDBDoctor(a *App) *cobra.Command {
	var opts dbDoctorOptions
	cmd := &cobra.Command{
		Use:   "doctor <database>",
		Short: "Find what stands in the way of automatic users",
		Long: `Log in to a database server as the admin user, as the agent does, and check it against everything that
roles can hand out there: what is missing, what does not work because of it, and the SQL or the lines of
pg_hba.conf that repair it. Nothing is changed. For the hub's owner, on the hub's machine.

Exit code 1 when something is found because of which sessions are refused. What cannot be seen before the
admin user can log in shows in the next run.`,
		Example: `  postern db doctor example
  postern db doctor example --sql | psql -h db.example.com -U postgres`,
		Args:              positional("DATABASE"),
		ValidArgsFunction: a.completeServed,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.database = args[0]
			return a.dbDoctor(cmd.Context(), opts)
		}),
	}
	cmd.Flags().BoolVar(&opts.sql, "sql", false, "print only the SQL that repairs what is found, to be run as superuser")
	formatFlag(cmd, &opts.format, formatText, formatJSON)
	cmd.MarkFlagsMutuallyExclusive("sql", "format")
	return cmd
}

func (a *App) dbDoctor(ctx context.Context, opts dbDoctorOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON); err != nil {
		return err
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	found, err := api.DoctorDatabase().Call(ctx, hub, api.DoctorDatabaseRequest{Name: opts.database})
	if err != nil {
		return err
	}
	if opts.sql {
		err = a.writeRepairs(found.Findings)
	} else {
		err = a.write(opts.format, found, func() error { return a.writeFindings(opts.database, found.Findings) })
	}
	if err == nil && slices.ContainsFunc(found.Findings, func(f api.Finding) bool { return f.Severity == api.SeverityError }) {
		err = statusError(exitFailed)
	}
	return err
}

// writeRepairs prints each statement once, in the order in which they run.
func (a *App) writeRepairs(findings []api.Finding) error {
	printed := map[string]bool{}
	others := 0
	for _, f := range findings {
		if len(f.SQL) == 0 {
			others++
		}
		for _, statement := range f.SQL {
			if printed[statement] {
				continue
			}
			printed[statement] = true
			if _, err := fmt.Fprintln(a.Out, printable(statement)); err != nil {
				return err
			}
		}
	}
	if others > 0 {
		a.warn("findings that SQL does not repair: %d; see them without --sql", others)
	}
	return nil
}

func (a *App) writeFindings(database string, findings []api.Finding) error {
	var b strings.Builder
	count := map[string]int{}
	for _, f := range findings {
		count[f.Severity]++
		fmt.Fprintf(&b, "%s: %s\n", printable(f.Severity), printable(f.Problem))
		for _, part := range []struct {
			name  string
			lines []string
		}{
			{"breaks", strings.Split(f.Breaks, "\n")},
			{"sql", f.SQL},
			{"pg_hba", f.HBA},
			{"advice", strings.Split(f.Advice, "\n")},
		} {
			name := part.name + ":"
			for _, line := range part.lines {
				if line != "" {
					fmt.Fprintf(&b, "  %-7s %s\n", name, printable(line))
					name = ""
				}
			}
		}
		b.WriteByte('\n')
	}
	if len(findings) == 0 {
		fmt.Fprintf(&b, "%s: nothing stands in the way\n", printable(database))
	} else {
		fmt.Fprintf(&b, "%s: errors: %d, warnings: %d, advice: %d\n", printable(database), count["error"], count["warning"], count["advice"])
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}

// completeServed offers the names of the databases that the hub's agents serve.
func (a *App) completeServed(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	hub, err := a.control()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	status, err := api.Status().Call(ctx, hub, api.Empty{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, d := range status.Databases {
		names = append(names, printable(d.Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
