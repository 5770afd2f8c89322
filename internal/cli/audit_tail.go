package cli

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

type auditTailOptions struct {
	lines  int
	follow bool
	format string
}

func newAuditTail(a *App) *cobra.Command {
	var opts auditTailOptions
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest audit events",
		Long:  "Show the newest audit events of the running hub, and with --follow those to come until Ctrl-C.",
		Example: `  ` + a.path("audit tail") + ` -n 20
  ` + a.path("audit tail") + ` --follow --format=json`,
		Args: positional(),
		RunE: a.run(func(cmd *cobra.Command, _ []string) error { return a.auditTail(cmd.Context(), opts) }),
	}
	cmd.Flags().IntVarP(&opts.lines, "lines", "n", 10, "how many events to begin with")
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "wait for more")
	eventFormatFlag(cmd, &opts.format)
	return cmd
}

func (a *App) auditTail(ctx context.Context, opts auditTailOptions) error {
	if err := checkFormat(opts.format, formatText, formatJSON); err != nil {
		return err
	}
	if opts.lines < 0 {
		return misused(fault.New(fault.Invalid, "--lines must not be negative"))
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	events, err := hub.Audit(ctx, api.AuditQuery{Lines: opts.lines, Follow: opts.follow})
	if err != nil {
		return err
	}
	defer events.Close()
	err = eachLine(events, func(line []byte) error { return a.writeEvent(line, opts.format) })
	if ctx.Err() != nil {
		return nil // Ctrl-C is how this ends
	}
	return err
}
