package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
)

func newDBDrift(a *App) *cobra.Command {
	return a.reportCommand(&cobra.Command{
		Use:   "drift <database>",
		Short: "Find managed accounts and bundles that differ from policy",
		Long: `Compare the database users and bundles that Postern manages on a server with policy: who can log in without
a session, has more or fewer rights than policy gives or has them directly, attributes and settings that
somebody changed, bundles with other grants, accounts and bundles that nobody needs. For each: what, why it
matters, and what repairs it: by itself, or the SQL. Nothing is changed. For the hub's owner, on the hub's
machine.

Exit code 1 when something differs. --sql prints only the SQL, for psql as superuser; read it first.`,
		Example: `  postern db drift example
  postern db drift example --sql | psql -h db.example.com -U postgres`,
	}, a.dbDrift)
}

// dbDrift reports whether something differs.
func (a *App) dbDrift(ctx context.Context, hub *api.Client, opts reportOptions) (bool, error) {
	found, err := api.DriftDatabase().Call(ctx, hub, api.DriftDatabaseRequest{Name: opts.database})
	if err != nil {
		return false, err
	}
	differs := len(found.Deviations) > 0
	if opts.sql {
		return differs, a.writeDriftSQL(found.Deviations)
	}
	return differs, a.write(opts.format, found, func() error { return a.writeDrift(opts.database, found.Deviations) })
}

func (a *App) writeDrift(database string, deviations []api.Deviation) error {
	var b strings.Builder
	for _, d := range deviations {
		fmt.Fprintf(&b, "%s: %s\n  matters: %s\n", printable(d.Role), printable(d.Problem), printable(d.Matters))
		if d.Repair != "" {
			fmt.Fprintf(&b, "  repair:  %s\n", printable(d.Repair))
		}
		name := "sql:"
		if d.Database != "" && len(d.SQL) > 0 {
			fmt.Fprintf(&b, "  %-8s %s\n", name, "-- in database "+printable(quote(d.Database)))
			name = ""
		}
		for _, sql := range d.SQL {
			fmt.Fprintf(&b, "  %-8s %s\n", name, printable(sql))
			name = ""
		}
		b.WriteByte('\n')
	}
	if len(deviations) == 0 {
		fmt.Fprintf(&b, "%s: all is as policy says\n", printable(database))
	} else {
		fmt.Fprintf(&b, "%s: deviations: %d\n", printable(database), len(deviations))
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}

// connectLine has psql go to a logical database.
func connectLine(database string) string {
	return `\connect ` + printable(`"`+strings.ReplaceAll(database, `"`, `""`)+`"`)
}

// writeDriftSQL prints the statements for psql, those of each logical database together.
func (a *App) writeDriftSQL(deviations []api.Deviation) error {
	slices.SortStableFunc(deviations, func(a, b api.Deviation) int { return cmp.Compare(a.Database, b.Database) })
	var b strings.Builder
	current, others := "", 0
	for _, d := range deviations {
		if len(d.SQL) == 0 {
			others++
			continue
		}
		if d.Database != current {
			current = d.Database
			b.WriteString(connectLine(current) + "\n")
		}
		for _, sql := range d.SQL {
			b.WriteString(printable(sql) + "\n")
		}
	}
	if others > 0 {
		a.warn("deviations that SQL does not repair: %d; see them without --sql", others)
	}
	_, err := a.Out.Write([]byte(b.String()))
	return err
}
