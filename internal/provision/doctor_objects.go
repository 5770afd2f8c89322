package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// checkBundles looks at bundles of this server that another admin has made, or one of the
// same name that was dropped.
func (c Checkup) checkBundles(have facts) []Finding {
	var all []Finding
	for _, d := range have.Databases {
		place := placePrefix(c.Scope, c.AdminName, d.Name)
		for _, bundle := range have.Bundles {
			if !strings.HasPrefix(bundle, place) || !have.mustOwn() {
				continue
			}
			all = append(all, Finding{
				Severity: SeverityError, Check: "bundle",
				Problem: fmt.Sprintf("the bundle %q was made by another admin: the admin user %q lacks ADMIN OPTION on it", bundle, c.AdminName),
				Breaks:  fmt.Sprintf("sessions in database %q that db_permissions give just this are refused", d.Name),
				SQL:     []string{grantAdminOptionSQL(bundle, c.AdminName)},
			})
		}
	}
	return all
}

// checkObjects looks for objects that policy gives and the admin cannot grant, in each
// logical database that it may use.
func (c Checkup) checkObjects(ctx context.Context, have facts) ([]Finding, error) {
	var all []Finding
	for _, d := range have.Databases {
		var given []Handout
		for _, h := range c.Handouts {
			if h.Permissions != nil && h.covers(d) {
				given = append(given, h)
			}
		}
		if len(given) == 0 || !d.Admin {
			continue // without CONNECT for the admin there is a finding already
		}
		found, err := c.checkObjectsOf(ctx, have, d.Name, given)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			found = []Finding{{
				Severity: SeverityWarning, Check: "db_permissions",
				Problem: fmt.Sprintf("the objects of database %q cannot be looked at: %s", d.Name, fault.Of(err).Text),
				Breaks:  "it cannot be said whether rights on them can be given",
				Advice:  "log in there as the admin user",
			}}
		}
		all = append(all, found...)
	}
	return all, nil
}

// checkObjectsOf looks at one logical database.
func (c Checkup) checkObjectsOf(ctx context.Context, have facts, database string, given []Handout) ([]Finding, error) {
	conn, err := c.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if r := conn.ExecParams(ctx, setupSQL, nil, nil, nil, nil).Read(); r.Err != nil {
		return nil, r.Err
	}
	state := bundleState{Version: have.Version, Database: database}
	var b batch
	b.params(bundleObjectsSQL(), [][]byte{nil}, func(r *pgconn.Result) (err error) { // as a bundle that has nothing yet
		state.objects, err = decodeObjects(r.Rows)
		return err
	})
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	var all []Finding
	lists := make([][]change, len(given))
	var union []change
	for i, h := range given {
		want, err := resolveRights(&state, h.Permissions)
		if err != nil {
			all = append(all, brokenPermissions(h, database, err))
			continue
		}
		lists[i] = planBundle(state.objects, &want)
		union = append(union, lists[i]...)
	}
	union = together(union)
	reaches := map[objectID]reach{}
	b = batch{}
	b.reach(union, reaches)
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	closed := closedSchemas(state.objects)
	_, missing, _ := split(union, reaches, closed)
	if len(missing) == 0 {
		return all, nil
	}
	f := Finding{
		Severity: SeverityWarning, Check: "db_permissions", Database: database,
		Problem: fmt.Sprintf("in database %q %s", database, missingText(missing, c.AdminName)),
		Breaks:  "sessions with these db_permissions begin without them: ",
		SQL:     repairStatements(missing, c.AdminName),
	}
	var users []string
	for i, h := range given {
		if _, lacks, _ := split(lists[i], reaches, closed); len(lacks) == 0 {
			continue
		}
		users = append(users, h.Users...)
		if !h.WarnMissing {
			f.Severity, f.Breaks = SeverityError, "sessions with these db_permissions are refused: "
		}
	}
	f.Breaks += some(users)
	return append(all, f), nil
}

// brokenPermissions is about db_permissions that are of no use in a database.
func brokenPermissions(h Handout, database string, err error) Finding {
	f := fault.Of(err)
	return Finding{
		Severity: SeverityError, Check: "db_permissions",
		Problem: fmt.Sprintf("db_permissions cannot be used in database %q: %s", database, f.Text),
		Breaks:  "sessions there are refused: " + some(h.Users), Advice: f.Hint,
	}
}

// together makes the changes of one object one change.
func together(changes []change) []change {
	at := map[objectID]int{}
	var all []change
	for _, c := range changes {
		i, known := at[c.object.id()]
		if !known {
			i = len(all)
			at[c.object.id()] = i
			all = append(all, c)
			continue
		}
		all[i].grant |= c.grant
	}
	slices.SortFunc(all, byObject)
	return all
}
