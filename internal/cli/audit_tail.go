package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/fault"
)

// maxEvent bounds one line of the audit log. Statements are cut at 1 MiB when
// they are recorded; escaping may make them six times as long.
const maxEvent = 8 << 20

func newAudit(a *App) *cobra.Command {
	cmd := group("audit", "Read the audit log", "Read what people did.", newAuditTail(a))
	return cmd
}

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
	// -f is --follow here, as everywhere where something has a tail.
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "wait for more")
	cmd.Flags().StringVar(&opts.format, "format", formatText, "output format: text, json (one event per line)")
	completeWith(cmd, "format", formatText, formatJSON)
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
	events, err := hub.Audit(ctx, opts.lines, opts.follow)
	if err != nil {
		return err
	}
	defer events.Close()
	err = a.writeEvents(events, opts.format)
	if ctx.Err() != nil {
		return nil // Ctrl-C is how this ends
	}
	return err
}

func (a *App) writeEvents(events io.Reader, format string) error {
	scanner := bufio.NewScanner(events)
	scanner.Buffer(make([]byte, 0, 64<<10), maxEvent)
	for scanner.Scan() {
		line := scanner.Text()
		if format == formatText {
			var err error
			if line, err = eventText(scanner.Bytes()); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(a.Out, line); err != nil {
			return err
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return fault.Newf(fault.Unavailable, "an audit event is longer than %d bytes", maxEvent)
	}
	return scanner.Err()
}

// eventFacts are the fields of audit events that people look at first, with the
// short names under which they are shown.
var eventFacts = []struct{ field, short string }{
	{"user", "user"},
	{"db_service", "db"},
	{"db_name", "db_name"},
	{"db_user", "db_user"},
	{"username", "username"},
	{"success", "success"},
	{"delete", "delete"},
	{"name", "name"},
	{"db_query", "query"},
	{"query", "query"},
	{"reason", "reason"},
	{"error", "error"},
}

// eventText writes an event on one line for people.
func eventText(line []byte) (string, error) {
	var event map[string]any
	if err := json.Unmarshal(line, &event); err != nil {
		return "", fault.Newf(fault.Unavailable, "the audit log cannot be read: %w", err)
	}
	text := func(field string) string {
		switch value := event[field].(type) {
		case string:
			return printable(value)
		case bool:
			return strconv.FormatBool(value)
		}
		return ""
	}
	words := []string{text("time"), text("code"), text("event")}
	for _, fact := range eventFacts {
		value := text(fact.field)
		if value == "" || fact.field == "success" && value == "true" {
			continue
		}
		if strings.ContainsAny(value, ` "=`) {
			value = quote(value)
		}
		words = append(words, fact.short+"="+value)
	}
	return strings.Join(words, " "), nil
}
