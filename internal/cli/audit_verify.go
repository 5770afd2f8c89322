package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
)

type auditVerifyOptions struct{ dir, format string }

func newAuditVerify(a *App) *cobra.Command {
	var opts auditVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check that nobody changed the audit log",
		Long: `Check every line of the audit log and the chain between them: of the running hub, or without any hub of
the files in DIR, which may be a copy. Exits with 1 where a line was changed, added or removed.

That nothing is missing at its end the chain alone cannot prove. Note the head now and then in another
place: a later log must contain it, see 'search'.`,
		Example: `  ` + a.path("audit verify") + `
  ` + a.path("audit verify") + ` --format=json /backup/postern/audit`,
		Args: positional("[DIR]"),
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.dir = optional(args)
			return a.auditVerify(cmd.Context(), opts)
		}),
	}
	formatFlag(cmd, &opts.format, formatText, formatJSON, formatYAML)
	return cmd
}

func (a *App) auditVerify(ctx context.Context, opts auditVerifyOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON, formatYAML); err != nil {
		return err
	}
	report, err := a.verifyAudit(ctx, opts.dir)
	if err != nil {
		return err
	}
	return a.write(opts.format, report, func() error {
		fmt.Fprintf(a.Out, "The chain is whole.\nSegments: %d\nEvents:   %d, number %d to %d\nHead:     %s\n",
			report.Segments, report.Events, report.First, report.Last, report.Head)
		if report.First > 1 {
			fmt.Fprintf(a.Out, "Removed:  all events before number %d\n", report.First)
		}
		if report.Torn > 0 {
			fmt.Fprintf(a.Out, "Torn:     %d bytes at the end, being written or left by a crash\n", report.Torn)
		}
		if len(report.Damaged) > 0 {
			fmt.Fprintf(a.Out, "Damaged:  %s, moved away by repairs\n", printable(strings.Join(report.Damaged, ", ")))
		}
		return nil
	})
}

func (a *App) verifyAudit(ctx context.Context, dir string) (audit.Report, error) {
	if dir != "" {
		return audit.Verify(ctx, dir)
	}
	hub, err := a.control()
	if err != nil {
		return audit.Report{}, err
	}
	return api.VerifyAudit().Call(ctx, hub, api.Empty{})
}
