package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

const (
	// maxRepairs bounds how often SQL is run: what one repair brings to light, the
	// next one repairs.
	maxRepairs = 4
	// servedTimeout is how long an agent may take to serve a database just registered.
	servedTimeout = 20 * time.Second
)

// prepare makes the admin user with the password that was made up: the one thing
// that doctor cannot see, as it only has the password.
func (add *dbAddition) prepare(ctx context.Context) error {
	if add.verifier == "" {
		return nil
	}
	admin := pgx.Identifier{add.db.Spec.AdminUser.Name}.Sanitize()
	return add.handle(ctx, append(provision.MakeAdminSQL(add.db.Spec.AdminUser.Name), "ALTER ROLE "+admin+" PASSWORD '"+add.verifier+"';"))
}

// handle runs statements as the superuser, with consent, or prints them.
func (add *dbAddition) handle(ctx context.Context, statements []string) error {
	yes := false
	if add.super != nil && !add.printOnly {
		for _, sql := range statements {
			add.tell("  %s", sql)
		}
		var err error
		if yes = add.opts.apply; !yes {
			if yes, err = add.agreed(ctx, "Run this on the server as "+add.opts.superuser+"?"); err != nil {
				return err
			}
		}
	}
	if yes {
		return add.super.run(ctx, statements)
	}
	add.printOnly = true
	for _, sql := range statements {
		if slices.Contains(add.printed, sql) {
			continue
		}
		add.printed = append(add.printed, sql)
		if _, err := fmt.Fprintln(add.Out, printable(sql)); err != nil {
			return err
		}
	}
	return nil
}

// repair has the agent look for what stands in the way, and what can be done
// about it done, until nothing is left or nothing helps.
func (add *dbAddition) repair(ctx context.Context) error {
	name := add.db.GetName()
	if err := add.awaitServed(ctx, name); err != nil {
		return err
	}
	for round := 1; ; round++ {
		found, err := api.DoctorDatabase().Call(ctx, add.hub, api.DoctorDatabaseRequest{Name: name})
		if err != nil {
			return err
		}
		repairs := repairsOf(found.Findings)
		if len(repairs) == 0 || round == maxRepairs {
			return add.conclude(name, found.Findings)
		}
		if err := add.handle(ctx, repairs); err != nil {
			return err
		}
		if add.printOnly {
			return add.conclude(name, found.Findings)
		}
	}
}

// repairsOf returns the SQL of what is wrong, each statement once. Advice is left
// to people, and so are rights on objects, which are granted in other databases.
func repairsOf(findings []api.Finding) []string {
	var all []string
	for _, f := range findings {
		if f.Severity == "advice" || f.Database != "" {
			continue
		}
		for _, sql := range f.SQL {
			if !slices.Contains(all, sql) {
				all = append(all, sql)
			}
		}
	}
	return all
}

// conclude says what is left.
func (add *dbAddition) conclude(name string, findings []api.Finding) error {
	talk := *add.App
	talk.Out = add.Err
	if err := talk.writeFindings(name, findings); err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f api.Finding) bool { return f.Severity == api.SeverityError }) {
		if len(add.printed) > 0 {
			add.say("hint", "the SQL above was not run; run it as superuser, or give --superuser and --apply")
		}
		add.say("hint", "when it is repaired, see: postern db doctor "+shellQuote(name))
		return statusError(exitFailed)
	}
	add.say("hint", "whom a role lets in, connects with: postern db connect --db-name=DBNAME "+shellQuote(name))
	return nil
}

// awaitServed waits until an agent serves the database.
func (add *dbAddition) awaitServed(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := api.Status().Call(ctx, add.hub, api.Empty{})
		if err == nil && slices.ContainsFunc(status.Databases, func(d api.DatabaseHealth) bool { return d.Name == name }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fault.Newf(fault.Unavailable, "no agent serves the database %s, which is registered now", name).
				WithHint("see db_service.resources in the agents' configuration, and the agents' log").WithCause(err)
		}
	}
}
