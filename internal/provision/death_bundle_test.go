package provision_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/provision"
)

// bundleDeath is something done to bundles that an agent may die of. prepare makes what is
// there before, and returns what is done while the agent dies.
type bundleDeath struct {
	name    string
	prepare func(t *testing.T, w *world, s *provision.Server, key string) func() error
	silent  bool // what fails is tried again later, and not returned
}

func bundleDeaths() []bundleDeath {
	return []bundleDeath{
		{"build", func(t *testing.T, w *world, s *provision.Server, key string) func() error {
			return func() error { return useBundle(t, s, w.bundleWant(key, readTables("app"))) }
		}, false},
		{"reconcile", func(t *testing.T, w *world, s *provision.Server, key string) func() error {
			want := w.bundleWant(key, readTables("app"))
			b := bundle(t, w.agent(t), want)
			w.asAdmin(t, "GRANT INSERT ON app.t1 TO "+q(b.Role()), "REVOKE SELECT ON app.t2 FROM "+q(b.Role()), "ALTER ROLE "+q(b.Role())+" LOGIN")
			return func() error { return useBundle(t, s, want) }
		}, false},
		{"switch", func(t *testing.T, w *world, s *provision.Server, key string) func() error {
			former := bundle(t, s, w.bundleWant(key+" former", give(func(o access.Object) []string { return []string{"INSERT"}[:min(1, len(o.Schema)/3)] })))
			want := w.want(w.name(key), provision.Keep, w.name("reader"))
			want.Bundle = former.Role()
			l := activate(t, s, want)
			next := bundle(t, s, w.bundleWant(key, readTables("app")))
			return func() error {
				_, err := l.Converge(t.Context(), want.Roles, next.Role())
				return err
			}
		}, false},
		{"drop", func(t *testing.T, w *world, s *provision.Server, key string) func() error {
			b, err := w.agent(t).Bundle(t.Context(), w.bundleWant(key, readTables("app")))
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
			return func() error { s.Collect(t.Context()); return nil }
		}, true},
	}
}

func useBundle(t *testing.T, s *provision.Server, want provision.BundleWant) error {
	b, err := s.Bundle(t.Context(), want)
	if err == nil {
		b.Release()
	}
	return err
}

// asAdmin runs statements as the admin, who has granted what is there.
func (w *world) asAdmin(t testing.TB, statements ...string) {
	t.Helper()
	conn := w.adminConn(t)
	for _, sql := range statements {
		mustExec(t, conn, sql)
	}
}

// An agent dies before or after each single message of building, correcting,
// switching and dropping a bundle. What it leaves never has more rights than
// policy has given at some time, and another agent's next look repairs it. The messages
// are counted, not listed, so that none can be forgotten.
func TestBundleDeathAtEveryStep(t *testing.T) {
	t.Parallel()
	onServers(t, []int{13, 16, 18}, limitedAdmin, func(t *testing.T, w *world) {
		w.newSchema(t, "app", "CREATE TABLE t1 (n int)", "CREATE TABLE t2 (n int)")
		w.letGrant(t, "app")
		for _, death := range bundleDeaths() {
			for _, lastHeard := range []bool{false, true} {
				for steps := int64(0); w.dieOfBundle(t, death, lastHeard, steps); steps++ {
				}
			}
		}
	})
}

// dieOfBundle lets an agent die after a number of messages, has another one repair
// what is left, and reports whether it died.
func (w *world) dieOfBundle(t *testing.T, death bundleDeath, lastHeard bool, steps int64) bool {
	t.Helper()
	key := fmt.Sprintf("%s %v %d", death.name, lastHeard, steps)
	soon := func(c *provision.Config) { c.BundleUnused = time.Nanosecond }
	s, m := w.mortalAgent(t, lastHeard, soon)
	die := death.prepare(t, w, s, key)
	if err := s.Warm(t.Context(), w.db); err != nil {
		t.Fatal(err)
	}
	m.left.Store(steps)
	err := die()
	died := m.dead()
	if err != nil && !died || err == nil && died && !death.silent {
		t.Fatalf("%s: died %t, error %v", key, died, err)
	}
	if !died && steps < 2 {
		t.Errorf("%s has %d messages only: nothing was tested", death.name, steps)
	}
	survivor := w.agent(t, soon)
	if err := sweep(t.Context(), survivor); err != nil {
		t.Fatalf("%s: sweep: %v", key, err)
	}
	b, err := survivor.Bundle(t.Context(), w.bundleWant(key, readTables("app")))
	if err != nil {
		t.Fatalf("%s: the next bundle: %v", key, err)
	}
	w.checkGrants(t, b.Role(), "SELECT app.t1", "SELECT app.t2", "USAGE schema app")
	w.check(t, key, b.Role(), account{Exists: true, Roles: []string{provision.BundleGroup}})
	want := w.want(w.name(key), provision.Keep, w.name("reader"))
	want.Bundle = b.Role()
	l := activate(t, survivor, want)
	w.check(t, key, want.User, active(sorted(w.name("reader"), b.Role())...))
	release(t, l, provision.Deactivated)
	b.Release()
	w.agent(t, soon).Collect(t.Context()) // forgets nobody's bundles: it knows none
	if n := w.text(t, "SELECT count(*)::text FROM pg_roles WHERE rolname ~ '^postern-bundle-'"); n != "0" {
		t.Errorf("%s: %s bundles are left that nobody uses", key, n)
	}
	return died
}
