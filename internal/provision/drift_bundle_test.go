package provision_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
	"github.com/postern-db/postern/internal/resource"
)

// driftObject is something of the schema app, and what may be granted on it.
type driftObject struct {
	kind, word, name, granted string // granted: its name in world.grants
	privileges                []string
}

var driftObjects = []driftObject{
	{resource.ObjectTable, "TABLE", "t1", "app.t1", []string{"DELETE", "INSERT", "SELECT", "UPDATE"}},
	{resource.ObjectTable, "TABLE", "t2", "app.t2", []string{"INSERT", "REFERENCES", "SELECT", "TRUNCATE"}},
	{resource.ObjectView, "TABLE", "v1", "app.v1", []string{"SELECT", "TRIGGER"}},
	{resource.ObjectSequence, "SEQUENCE", "s1", "app.s1", []string{"SELECT", "UPDATE", "USAGE"}},
	{resource.ObjectFunction, "FUNCTION", "f1", "app.f1()", []string{"EXECUTE"}},
}

func someOf(rnd *rand.Rand, of []string) []string {
	return slices.DeleteFunc(slices.Clone(of), func(string) bool { return rnd.IntN(2) == 0 })
}

// Whatever a bundle has come to hold, and whatever policy says next, it is led to
// exactly that, and a second look of another agent finds nothing to do.
func TestRandomBundleDrift(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 0))
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)", "CREATE TABLE t2 (n int)", "CREATE VIEW v1 AS SELECT 1 AS n", "CREATE SEQUENCE s1",
			"CREATE FUNCTION f1() RETURNS int LANGUAGE sql AS 'SELECT 1'", "REVOKE ALL ON FUNCTION f1 FROM PUBLIC")
		w.letGrant(t, "app")
		wanted := map[string][]string{}
		revision := 0
		want := w.bundleWant("drift", func() provision.ObjectPolicy {
			policy := give(func(o access.Object) []string { return wanted[o.Schema+"."+o.Name] })()
			policy.Revision = revision
			return policy
		})
		s := w.agent(t)
		role := bundle(t, s, want).Role()
		admin := w.adminConn(t)
		for range 8 {
			for range rnd.IntN(5) {
				o := driftObjects[rnd.IntN(len(driftObjects))]
				p := strings.Join(append(someOf(rnd, o.privileges), o.privileges[0]), ", ")
				if rnd.IntN(3) == 0 {
					mustExec(t, admin, fmt.Sprintf("REVOKE %s ON %s app.%s FROM %s", p, o.word, o.name, q(role)))
				} else {
					mustExec(t, admin, fmt.Sprintf("GRANT %s ON %s app.%s TO %s%s", p, o.word, o.name, q(role), []string{"", " WITH GRANT OPTION"}[rnd.IntN(2)]))
				}
			}
			revision++
			var exact []string
			for _, o := range driftObjects {
				wanted["app."+o.name] = someOf(rnd, o.privileges)
				for _, p := range wanted["app."+o.name] {
					exact = append(exact, p+" "+o.granted)
				}
			}
			if len(exact) > 0 {
				exact = append(exact, "USAGE schema app")
			}
			b, err := w.agent(t).Bundle(t.Context(), want)
			if err != nil {
				t.Fatal(fault.Chain(err))
			}
			w.checkGrants(t, role, exact...)
			b.Release()
			if r := bundle(t, w.agent(t), want).Result(); r.Changed {
				t.Errorf("a second look wrote %d statements", r.Statements)
			}
		}
	})
}
