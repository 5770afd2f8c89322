package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-db/postern/internal/fault"
)

// maxEvent bounds one line of the audit log. Statements are cut at 1 MiB when
// they are recorded; escaping may make them six times as long.
const maxEvent = 8 << 20

func newAudit(a *App) *cobra.Command {
	return group("audit", "Read the audit log", "Read what people did, and check that nobody changed the record.",
		newAuditTail(a), newAuditSearch(a), newAuditVerify(a))
}

// eventFormatFlag adds --format for lists of events. It has no short form: -f is
// --follow here, as everywhere where something has a tail.
func eventFormatFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "format", formatText, "output format: text, json (one event per line)")
	completeWith(cmd, "format", formatText, formatJSON)
}

// eachLine calls use for each line of a stream of events.
func eachLine(events io.Reader, use func(line []byte) error) error {
	scanner := bufio.NewScanner(events)
	scanner.Buffer(make([]byte, 0, 64<<10), maxEvent)
	for scanner.Scan() {
		if err := use(scanner.Bytes()); err != nil {
			return err
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return fault.Newf(fault.Unavailable, "an audit event is longer than %d bytes", maxEvent)
	}
	return scanner.Err()
}

// writeEvent prints one event.
func (a *App) writeEvent(line []byte, format string) error {
	text := string(line)
	if format == formatText {
		var err error
		if text, err = eventText(line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(a.Out, text)
	return err
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
	{"statement_name", "statement"},
	{"portal_name", "portal"},
	{"parameters", "parameters"},
	{"direction", "copy"},
	{"outcome", "outcome"},
	{"command_tags", "tags"},
	{"sqlstate", "sqlstate"},
	{"message", "message"},
	{"reason", "reason"},
	{"error", "error"},
}

// eventText writes an event on one line for people.
func eventText(line []byte) (string, error) {
	var event map[string]any
	if err := json.Unmarshal(line, &event); err != nil {
		return "", fault.Newf(fault.Unavailable, "the audit log cannot be read: %w", err)
	}
	words := []string{factText(event["time"]), factText(event["code"]), factText(event["event"])}
	for _, fact := range eventFacts {
		value := factText(event[fact.field])
		switch {
		case value == "",
			fact.field == "success" && value == "true",
			fact.field == "message" && event["error"] != nil: // which says more
			continue
		}
		if strings.ContainsAny(value, ` "=`) {
			value = quote(value)
		}
		words = append(words, fact.short+"="+value)
	}
	return strings.Join(words, " "), nil
}

// factText writes a value of an event; lists with commas.
func factText(value any) string {
	switch value := value.(type) {
	case string:
		return printable(value)
	case bool:
		return strconv.FormatBool(value)
	case []any:
		texts := make([]string, len(value))
		for i, v := range value {
			if texts[i] = factText(v); v == nil {
				texts[i] = "NULL"
			}
		}
		return strings.Join(texts, ", ")
	}
	return ""
}
