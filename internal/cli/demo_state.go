package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/postern-db/postern/internal/api"
)

// demoState is something to wait for. The zero value is there already.
type demoState struct {
	what string // of which thing
	want string // in which state
	look func(ctx context.Context) (string, error)
}

// demoPoll is how often a state is looked at.
const demoPoll = 20 * time.Millisecond

// demoEvents is how many audit events are read: more than the demo causes.
const demoEvents = 200

// await waits until a state is there, for as long as Postern runs.
func (d *demoRun) await(ctx context.Context, s demoState) error {
	if s.look == nil {
		return nil
	}
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for {
		seen, err := s.look(ctx)
		if err != nil {
			return err
		}
		if seen == s.want {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.hub.done:
			return fmt.Errorf("postern start ended: %v", d.hub.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("%s was expected to be %q and is %q: %w", s.what, s.want, seen, ctx.Err())
		}
	}
}

// account is the state of a database user: absent, or LOGIN or NOLOGIN and the
// roles that it holds.
func (d *demoRun) account(name, want string) demoState {
	query := `SELECT coalesce((
	SELECT CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END || ' in ' || array_to_string(ARRAY(
		SELECT DISTINCT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1), ', ')
	FROM pg_roles r WHERE rolname = '` + name + `'), 'absent')`
	return demoState{"the database user " + name, want, func(ctx context.Context) (string, error) {
		cmd := exec.CommandContext(ctx, d.psql, "-XAt", "-d", "postgres", "-c", query)
		cmd.Env = d.shell.env
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("ask PostgreSQL about %s: %w", name, err)
		}
		return strings.TrimSpace(string(out)), nil
	}}
}

var readyText = regexp.MustCompile(`postern is ready: address=(\S+) .*ca_pin=(\S+)`)

// hubReady learns from the one line that a hub prints where it is.
func (d *demoRun) hubReady(context.Context) (string, error) {
	match := readyText.FindStringSubmatch(d.hub.printed())
	if match == nil {
		return "starting", nil
	}
	d.address, d.pin = match[1], match[2]
	return "ready", nil
}

// health is that of the only database.
func (d *demoRun) health(ctx context.Context) (string, error) {
	s, err := api.Status().Call(ctx, d.owner, api.Empty{})
	if err != nil || len(s.Databases) == 0 {
		return "not served", err
	}
	return s.Databases[0].Status, nil
}

// ended is whether the end of a session of the user is in the audit log.
func (d *demoRun) ended(user string) demoState {
	return demoState{"the session of " + user, "ended", func(ctx context.Context) (string, error) {
		events, err := d.owner.Audit(ctx, api.AuditQuery{Lines: demoEvents})
		if err != nil {
			return "", err
		}
		defer events.Close()
		for decoder := json.NewDecoder(events); ; {
			var event struct{ Event, User string }
			if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
				return "open", nil
			} else if err != nil {
				return "", err
			}
			if event.Event == "db.session.end" && event.User == user {
				return "ended", nil
			}
		}
	}}
}
