package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

func newDBDoctor(a *App) *cobra.Command {
	return a.reportCommand(&cobra.Command{
		Use:   "doctor <database>",
		Short: "Find what stands in the way of automatic users",
		Long: `Log in to a database server as the admin user, as the agent does, and check it against everything that
roles can hand out there: what is missing, what does not work because of it, and the SQL or the lines of
pg_hba.conf that repair it. Nothing is changed. For the hub's owner, on the hub's machine.

Exit code 1 when something is found because of which sessions are refused. What cannot be seen before the
admin user can log in shows in the next run.`,
		Example: `  postern db doctor example
  postern db doctor example --sql | psql -h db.example.com -U postgres`,
	}, a.dbDoctor)
}

// dbDoctor reports whether sessions are refused because of what was found.
func (a *App) dbDoctor(ctx context.Context, hub *api.Client, opts reportOptions) (bool, error) {
	found, err := api.DoctorDatabase().Call(ctx, hub, api.DoctorDatabaseRequest{Name: opts.database})
	if err != nil {
		return false, err
	}
	refuses := slices.ContainsFunc(found.Findings, func(f api.Finding) bool { return f.Severity == api.SeverityError })
	if opts.sql {
		return refuses, a.writeRepairs(found.Findings)
	}
	return refuses, a.write(opts.format, found, func() error { return a.writeFindings(opts.database, found.Findings) })
}

// writeRepairs prints each statement once, in the order in which they run.
func (a *App) writeRepairs(findings []api.Finding) error {
	printed := map[string]bool{}
	others, current := 0, ""
	for _, f := range findings {
		if len(f.SQL) == 0 {
			others++
		}
		for _, statement := range f.SQL {
			if f.Database == "" && printed[statement] {
				continue
			}
			printed[statement] = true
			if f.Database != "" && f.Database != current {
				current = f.Database
				if _, err := fmt.Fprintln(a.Out, connectLine(current)); err != nil {
					return err
				}
			}
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
