package cli

import (
	"bytes"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/fault"
)

type auditSearchOptions struct {
	words        []string
	filter       audit.Filter
	since, until string
	dir          string
	format       string
}

func newAuditSearch(a *App) *cobra.Command {
	var opts auditSearchOptions
	cmd := &cobra.Command{
		Use:   "search [WORD...]",
		Short: "Find audit events",
		Long: `Print the events that match, the oldest first. Every WORD must occur in the event, in any case. The log
is that of the running hub, or with --dir any copy of one.`,
		Example: `  ` + a.path("audit search") + ` --user=alice --since=24h salaries
  ` + a.path("audit search") + ` --event=db.session.result --session=7F3K… --format=json`,
		RunE: a.run(func(cmd *cobra.Command, args []string) error {
			opts.words = args
			return a.auditSearch(cmd.Context(), opts)
		}),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&opts.filter.Events, "event", nil, "types or codes, any of them")
	flags.StringVar(&opts.filter.User, "user", "", "who did it")
	flags.StringVar(&opts.filter.Session, "session", "", "id of a session (sid)")
	flags.StringVar(&opts.filter.Database, "database", "", "registered database")
	flags.StringVar(&opts.since, "since", "", "not before: 2026-01-31, 2026-01-31T08:00:00Z, or 24h ago")
	flags.StringVar(&opts.until, "until", "", "before, in the same forms")
	flags.StringVar(&opts.dir, "dir", "", "directory with the files of a log, instead of the running hub's")
	eventFormatFlag(cmd, &opts.format)
	return cmd
}

func (a *App) auditSearch(ctx context.Context, opts auditSearchOptions) (err error) {
	if err := checkFormat(opts.format, formatText, formatJSON); err != nil {
		return err
	}
	now := time.Now()
	if opts.filter.Since, err = moment(opts.since, now); err != nil {
		return err
	}
	if opts.filter.Until, err = moment(opts.until, now); err != nil {
		return err
	}
	show := func(line []byte) error {
		lower := bytes.ToLower(line)
		for _, word := range opts.words {
			if !bytes.Contains(lower, bytes.ToLower([]byte(word))) {
				return nil
			}
		}
		return a.writeEvent(line, opts.format)
	}
	if opts.dir != "" {
		for record, err := range audit.Read(ctx, opts.dir, 1, opts.filter) {
			if err == nil {
				err = show(record.Raw)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	hub, err := a.control()
	if err != nil {
		return err
	}
	events, err := hub.Audit(ctx, api.AuditQuery{Lines: -1, Filter: opts.filter})
	if err != nil {
		return err
	}
	defer events.Close()
	return eachLine(events, show)
}

// moment reads a point in time: a date, a date and time, or how long ago.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, now.Location()); err == nil {
		return t, nil
	}
	var ago ttlValue
	if err := ago.Set(text); err != nil {
		return time.Time{}, misused(fault.Newf(fault.Invalid, "%q is not a time", text).WithHint("write 2026-01-31, 2026-01-31T08:00:00Z, or how long ago: 24h"))
	}
	return now.Add(-time.Duration(ago)), nil
}
