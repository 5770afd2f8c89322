package provision

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

const (
	canSelect = privileges(1 << iota)
	canInsert
	canUpdate
)

func relation(oid uint32, kind, name string, held privileges) bundleObject {
	return bundleObject{class: classRelation, oid: oid, kind: kind, schema: "app", name: name, held: held}
}

func TestBundleStatements(t *testing.T) {
	usage, execute := privilege("USAGE"), privilege("EXECUTE")
	schema := bundleObject{class: classSchema, oid: 1, kind: kindSchema, name: "app", usable: true}
	table, second := relation(10, resource.ObjectTable, "t", 0), relation(11, resource.ObjectView, `"; v`, 0)
	routine := bundleObject{class: classRoutine, oid: 10, kind: resource.ObjectProcedure, schema: "app", name: "p"}
	on := rights{on: map[objectID]privileges{table.id(): canSelect, second.id(): canSelect, routine.id(): execute}, schemas: map[string]bool{"app": true}}
	everything := map[objectID]reach{}
	for _, o := range []bundleObject{schema, table, second, routine} {
		everything[o.id()] = reach{grantable: ^privileges(0), arguments: "IN n integer"}
	}
	with := func(o bundleObject, held, options privileges) bundleObject {
		o.held, o.options = held, options
		return o
	}
	tests := []struct {
		name string
		have []bundleObject
		want rights
		sql  []string
	}{
		{name: "new", have: []bundleObject{second, routine, schema, table}, want: on, sql: []string{
			`GRANT SELECT ON TABLE "app"."t", "app"."""; v" TO "b"`, `GRANT USAGE ON SCHEMA "app" TO "b"`, `GRANT EXECUTE ON PROCEDURE "app"."p"(IN n integer) TO "b"`,
		}},
		{name: "as wanted", have: []bundleObject{with(schema, usage, 0), with(table, canSelect, 0), with(second, canSelect, 0), with(routine, execute, 0)}, want: on},
		{name: "nothing wanted", have: []bundleObject{with(schema, usage, 0), with(table, canSelect|canInsert, canInsert)}, sql: []string{
			`REVOKE SELECT, INSERT ON TABLE "app"."t" FROM "b" CASCADE`, `REVOKE USAGE ON SCHEMA "app" FROM "b" CASCADE`,
		}},
		{name: "too much and too little", have: []bundleObject{with(schema, usage, 0), with(table, canUpdate|otherPrivilege, 0), with(routine, execute, execute)}, want: on, sql: []string{
			`REVOKE ALL PRIVILEGES ON TABLE "app"."t" FROM "b" CASCADE`, `REVOKE GRANT OPTION FOR EXECUTE ON PROCEDURE "app"."p"(IN n integer) FROM "b" CASCADE`,
			`GRANT SELECT ON TABLE "app"."t" TO "b"`,
		}},
		{name: "a schema for everybody", have: []bundleObject{{class: classSchema, oid: 1, kind: kindSchema, name: "app", public: true, usable: true}, with(table, canSelect, 0)}, want: on},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			possible, missing, stuck := split(planBundle(tt.have, &tt.want), everything, closedSchemas(tt.have))
			if diff := cmp.Diff(tt.sql, bundleStatements("b", possible)); diff != "" || missing != nil || stuck != nil {
				t.Errorf("missing %v, stuck %v, statements (-want +got):\n%s", missing, stuck, diff)
			}
		})
	}
}

// TestBundlePlanConverges: whatever is there and whatever is wanted, the possible
// changes lead to what is wanted but for what is reported, and give no more.
func TestBundlePlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := rapid.Custom(func(t *rapid.T) privileges { return privileges(rapid.IntRange(0, 15).Draw(t, "set")) })
		kinds := []bundleObject{
			relation(0, resource.ObjectTable, "t", 0), relation(0, resource.ObjectSequence, "s", 0),
			{class: classRoutine, kind: resource.ObjectFunction, schema: "app", name: "f"},
			{class: classRoutine, kind: resource.ObjectProcedure, schema: "app", name: "p"},
		}
		have := make([]bundleObject, rapid.IntRange(0, 6).Draw(t, "objects"))
		want := rights{on: map[objectID]privileges{}, schemas: map[string]bool{}}
		reaches := map[objectID]reach{}
		for i := range have {
			have[i] = rapid.SampledFrom(kinds).Draw(t, "kind")
			have[i].oid, have[i].held = uint32(i/2+1), set.Draw(t, "held") // oids are of one class
			if i%2 == 1 && have[i].class == have[i-1].class {
				have[i].oid += 1000
			}
			have[i].options = have[i].held & set.Draw(t, "options")
			want.on[have[i].id()] = set.Draw(t, "wanted")
			reaches[have[i].id()] = reach{grantable: set.Draw(t, "grantable"), public: set.Draw(t, "public")}
		}
		possible, missing, stuck := split(planBundle(have, &want), reaches, nil)
		after := slices.Clone(have)
		for _, c := range possible {
			o := &after[slices.IndexFunc(after, func(o bundleObject) bool { return o.id() == c.object.id() })]
			o.held = o.held&^c.revoke | c.grant
			o.options &^= c.revoke | c.unoption
		}
		again, stillMissing, stillStuck := split(planBundle(after, &want), reaches, nil)
		if len(again) != 0 || len(stillMissing) != len(missing) || len(stillStuck) != len(stuck) {
			t.Fatalf("the second plan is %v, missing %v after %v, stuck %v after %v", again, stillMissing, missing, stillStuck, stuck)
		}
		for i, o := range after {
			id := o.id()
			lacking, surplus := want.on[id]&^o.held, o.held&^want.on[id]|o.options
			for _, c := range missing {
				if c.object.id() == id {
					lacking &^= c.grant
				}
			}
			for _, c := range stuck {
				if c.object.id() == id {
					surplus &^= c.revoke | c.unoption
				}
			}
			if surplus != 0 || lacking&^reaches[id].public != 0 {
				t.Fatalf("%+v, wanted %v: after it lacks %v and has %v too much", have[i], want.on[id], lacking, surplus)
			}
		}
	})
}

func TestPlanKeepsBundlesOfOtherPlaces(t *testing.T) {
	place, elsewhere := placePrefix("s", "admin", "app"), placePrefix("s", "admin", "other")
	mine, former, other := bundleName(place, "new"), bundleName(place, "old"), bundleName(elsewhere, "x")
	if len(mine) > maxName || mine == former || !strings.HasPrefix(mine, place) {
		t.Fatalf("names %q, %q", mine, former)
	}
	isBundle := func(m *membership) { m.Bundle = true }
	quiet := func(m *membership) { m.Bundle, m.Set = true, false }
	want := target{user: "alice", login: true, roles: []string{mine}, bundle: mine, place: place}
	const lock = `COMMENT ON ROLE "alice" IS NULL`
	tests := []struct {
		name string
		have state
		want target
		plan []string
	}{
		{"new policy, before 16", have(150000, loggedIn, holds(former, isBundle), holds(other, isBundle)), want, []string{lock, `REVOKE "` + former + `" FROM "alice"`, `GRANT "` + mine + `" TO "alice"`}},
		{"new policy", have(160000, loggedIn, holds(former, quiet), holds(other, quiet)), want, []string{
			lock, `REVOKE "` + former + `" FROM "alice" GRANTED BY "admin"`, `GRANT "` + mine + `" TO "alice" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE`,
		}},
		{"as wanted", have(160000, loggedIn, holds(mine, quiet), holds(other, quiet)), want, nil},
		{"may SET ROLE", have(160000, loggedIn, holds(mine, quiet), holds(other, isBundle)), want, []string{lock, `REVOKE "` + other + `" FROM "alice" GRANTED BY "admin"`}},
		{"a namesake that is no bundle", have(160000, loggedIn, holds(mine, quiet), holds(other, func(m *membership) { m.Set = false })), want, []string{lock, `REVOKE "` + other + `" FROM "alice" GRANTED BY "admin"`}},
		{"released", have(150000, holds(mine, isBundle), holds(other, isBundle)), target{user: "alice"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "released" {
				tt.plan = append([]string{lock}, sortedTexts(`REVOKE "`+mine+`" FROM "alice"`, `REVOKE "`+other+`" FROM "alice"`)...)
			}
			steps, _ := plan(tt.have, tt.want)
			got := texts(steps)
			if len(got) > 1 {
				slices.Sort(got[1:])
				slices.Sort(tt.plan[1:])
			}
			if diff := cmp.Diff(append([]string{}, tt.plan...), got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func sortedTexts(texts ...string) []string { slices.Sort(texts); return texts }

func TestBundleComment(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	comment := describeBundle("a", []string{strings.Repeat("ä", maxCommentRoles)})
	stamped := stampComment(comment+stampMark, now)
	if got := lastUsed(stamped); !got.Equal(now) || commentIsOld(stamped, now.Add(touchAfter)) || !commentIsOld(stamped, now.Add(touchAfter+1)) {
		t.Errorf("%q: %v", stamped, got)
	}
	for _, text := range []string{"", "somebody's own", stampMark + "yesterday."} {
		if !lastUsed(text).IsZero() {
			t.Errorf("%q has a time", text)
		}
	}
}

func TestAnswersAboutOtherObjects(t *testing.T) {
	s := &bundleState{Version: 150000, Database: "d", objects: []bundleObject{relation(1, resource.ObjectTable, "a", 0)}}
	_, err := resolveRights(s, func([]access.Object) access.ObjectPermissions {
		return access.ObjectPermissions{Objects: []access.ObjectPermission{{Object: access.Object{Kind: resource.ObjectTable, Name: "x"}, Permissions: []string{"SELECT"}}}}
	})
	if err == nil {
		t.Error("an answer about an object that was not asked about is taken")
	}
}
