package provision_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/provision"
)

// accomplice opens a session of somebody who acts as the user, as members of an account can that an
// administrator made.
func (w *world) accomplice(t testing.TB, user string) *pgx.Conn {
	t.Helper()
	conn := w.pg.Superuser(t, w.db)
	for _, sql := range []string{"SET search_path = private", "SET lock_timeout = '3s'", "SET ROLE " + q(user)} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// awaitWaiting waits until somebody waits for a lock in the world's database.
func (w *world) awaitWaiting(t testing.TB) {
	t.Helper()
	eventually(t, "the release waits for a lock", func() (waits bool) {
		err := w.dba.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND a.datname = current_database() AND a.usename = $1)`, w.admin).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
}

// swap is what two accomplices do to a table t that is being given away: one holds it up,
// the other acts meanwhile.
type swap struct {
	holding, meanwhile []string
	why                string // nothing is moved; empty: what they did is undone
}

var swaps = []swap{
	{holding: []string{"ALTER TABLE t ADD COLUMN x int DEFAULT evil()"}, why: "defaults"},
	{holding: []string{"CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION spring()"}, why: "triggers"},
	{holding: []string{"ALTER TABLE t ENABLE ROW LEVEL SECURITY"}, why: "row-level security"},
	{holding: []string{"CREATE RULE x AS ON INSERT TO t DO ALSO SELECT evil()"}, why: "rules"},
	{holding: []string{"LOCK TABLE t"}, meanwhile: []string{"CREATE FUNCTION spy() RETURNS int LANGUAGE sql AS 'SELECT 1'"}, why: "ordinary"},
	{holding: []string{"LOCK TABLE t"}, meanwhile: []string{"CREATE VIEW spy AS SELECT 1"}, why: "ordinary"},
	{holding: []string{"LOCK TABLE t"}, meanwhile: []string{"CREATE TABLE trap (a int DEFAULT evil())"}, why: "defaults"},
	{holding: []string{"LOCK TABLE t"}, meanwhile: []string{"CREATE CAST (t AS int) WITH FUNCTION evil(t)"}, why: "casts"},
	{holding: []string{"LOCK TABLE t"}, meanwhile: []string{"CREATE TABLE extra (a int)"}},
	{holding: []string{"GRANT ALL ON t TO PUBLIC", "LOCK TABLE t"}},
	{holding: []string{"ALTER TABLE t RENAME TO u", "CREATE TABLE t (a int DEFAULT evil())"}, why: "defaults"},
	{holding: []string{"DROP TABLE t CASCADE"}, why: "does not exist"},
}

// TestSwapWhileGivingAway changes what is given away between the moment when it is looked at and
// the moment when it is moved.
func TestSwapWhileGivingAway(t *testing.T) {
	t.Parallel()
	everywhereWithInheritor(t, func(t *testing.T, w *world) {
		if w.stock || w.admin == superAdmin && w.pg.Version != pgtest.Newest(t) {
			return // it looks at the same
		}
		s := w.agent(t)
		for i, c := range swaps {
			user := w.name(fmt.Sprint("user", i))
			out := w.swapWhileGivingAway(t, s, user, c)
			for try := 0; try < 5 && strings.Contains(out.NotMoved, "timeout"); try++ { // the machine took its time to swap
				user += "x"
				out = w.swapWhileGivingAway(t, s, user, c)
			}
			owner, why := user, out.NotMoved
			if c.why == "" {
				owner = provision.Inheritor
			}
			if w.admin == limitedAdmin && strings.Contains(why, "SET ROLE") { // since 16 PostgreSQL lets no function or view be moved
				why = "ordinary"
			}
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") || w.owner(t, "private.q") != owner {
				t.Errorf("%+v: moved %q, not moved because %q", c, out.Moved, why)
			}
			if a := w.account(t, user); a.Login || len(a.Roles) > 0 || a.Exists != (c.why != "") {
				t.Errorf("%+v: left with %+v", c, a)
			}
			var granted bool
			err := w.dba.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) g
WHERE c.relowner = $1::text::regrole AND g.grantee <> c.relowner AND c.relnamespace = 'private'::regnamespace)`, q(provision.Inheritor)).Scan(&granted)
			if err != nil || granted {
				t.Errorf("%+v: somebody has rights on what the inheritor got, %v", c, err)
			}
		}
		if held := w.borrowed(t); len(held) > 0 {
			t.Errorf("the admin still holds %q", held)
		}
	})
}

// swapWhileGivingAway ends a session of a new user that leaves a table and a sequence in a fresh schema private, and has
// two accomplices act while the release waits for the table.
func (w *world) swapWhileGivingAway(t *testing.T, s *provision.Server, user string, c swap) provision.Outcome {
	t.Helper()
	l := activate(t, s, w.want(user, provision.Reassign, w.name("writer")))
	w.exec(t, "DROP SCHEMA private CASCADE")
	w.exec(t, "CREATE SCHEMA private")
	w.exec(t, "GRANT USAGE, CREATE ON SCHEMA private TO PUBLIC")
	w.leave(t, l, "CREATE TABLE private.t (a int)", "CREATE SEQUENCE private.q")
	w.exec(t, "CREATE FUNCTION private.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	w.exec(t, "CREATE FUNCTION private.evil(private.t) RETURNS int LANGUAGE sql AS 'SELECT 1'")
	w.exec(t, "CREATE FUNCTION private.spring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
	holder, other := w.accomplice(t, user), w.accomplice(t, user)
	defer holder.Close(t.Context())
	defer other.Close(t.Context())
	mustExec(t, holder, "BEGIN")
	for _, sql := range c.holding {
		mustExec(t, holder, sql)
	}
	outcome := make(chan provision.Outcome, 1)
	go func() {
		out, err := l.Release(t.Context())
		if err != nil {
			t.Errorf("release: %v", err)
		}
		outcome <- out
	}()
	w.awaitWaiting(t)
	for _, sql := range c.meanwhile {
		mustExec(t, other, sql)
	}
	mustExec(t, holder, "COMMIT")
	return <-outcome
}

// TestGivingAwayGivesUp holds on to a table for ever, by a session and by a prepared transaction,
// raises an error in an event trigger, and prepares something that belongs to the account. The account loses
// its rights all the same, and a session that comes meanwhile is not refused.
func TestGivingAwayGivesUp(t *testing.T) {
	t.Parallel()
	for _, version := range []int{13, pgtest.Newest(t)} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			pg := pgtest.Start(t, pgtest.Options{Version: version, Settings: map[string]string{"max_prepared_transactions": "5"}})
			for _, hold := range []struct{ name, sql, why string }{
				{"session", "", "timeout"},
				{"prepared lock", "BEGIN; LOCK TABLE private.t; PREPARE TRANSACTION 'lock'", "timeout"},
				{"prepared grant", "BEGIN; GRANT ALL ON private.t TO PUBLIC; PREPARE TRANSACTION 'grant'", "timeout"},
				{"prepared function", "BEGIN; CREATE FUNCTION private.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; PREPARE TRANSACTION 'function'", ""},
				{"event trigger", "GRANT SELECT ON private.t TO PUBLIC", "no such thing"},
			} {
				t.Run(hold.name, func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, pg, limitedAdmin).withInheritor(t)
					s, alice := w.agent(t), w.name("alice")
					l := activate(t, s, w.want(alice, provision.Reassign, w.name("writer")))
					w.leave(t, l, "CREATE TABLE private.t (a int)")
					holder := w.accomplice(t, alice)
					sql := []string{"BEGIN", "LOCK TABLE t"}
					if hold.sql != "" {
						sql = strings.Split(hold.sql, "; ")
					}
					for _, sql := range sql {
						if _, err := holder.Exec(t.Context(), sql); err != nil {
							t.Fatal(err)
						}
					}
					if hold.name == "event trigger" {
						w.exec(t, "CREATE FUNCTION public.stop() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no such thing''; END'")
						w.exec(t, "CREATE EVENT TRIGGER stop ON ddl_command_end WHEN TAG IN ('REVOKE') EXECUTE FUNCTION public.stop()")
					}
					released := make(chan provision.Outcome, 1)
					go func() {
						out, err := l.Release(t.Context())
						if err != nil {
							t.Errorf("release: %v", err)
						}
						released <- out
					}()
					if hold.name == "session" {
						w.awaitWaiting(t)
						second, err := w.agent(t).Activate(context.WithoutCancel(t.Context()), w.want(alice, provision.Reassign))
						if err != nil {
							t.Errorf("a session that comes meanwhile through another agent: %v", err)
						} else {
							defer release(t, second, provision.Deactivated)
						}
					}
					out := <-released
					if out.Result != provision.Deactivated || !strings.Contains(out.NotMoved, hold.why) || out.KeptBecause == "" {
						t.Errorf("got %+v, want the account disabled and nothing moved because %q", out, hold.why)
					}
					if hold.name != "session" {
						w.check(t, "after", alice, disabled())
					}
					if held := w.borrowed(t); len(held) > 0 {
						t.Errorf("the admin still holds %q", held)
					}
				})
			}
		})
	}
}

// TestDeathWhileGivingAway ends the agent before and after each message of a release that moves
// objects. The next sweep moves what is left, and drops the account.
func TestDeathWhileGivingAway(t *testing.T) {
	t.Parallel()
	onServers(t, []int{13, pgtest.Newest(t)}, limitedAdmin, func(t *testing.T, w *world) {
		w.withInheritor(t)
		survivor, n := w.agent(t), 0
		want := func(user string) provision.Want { return w.want(user, provision.Reassign, w.name("writer")) }
		for _, lastHeard := range []bool{false, true} {
			w.dieEverywhere(t, fmt.Sprint("reassign ", lastHeard), lastHeard, survivor, want, func(t *testing.T, s *provision.Server, m *mortal, steps int64, user string) error {
				l := activate(t, s, want(user))
				n++
				w.exec(t, "CREATE TABLE %s ()", fmt.Sprint("t", n))
				w.exec(t, "ALTER TABLE %s OWNER TO %s", fmt.Sprint("t", n), user)
				m.left.Store(steps)
				_, err := l.Release(t.Context())
				return err
			})
		}
		for i := range n {
			if got := w.owner(t, fmt.Sprint("t", i+1)); got != provision.Inheritor {
				t.Errorf("table %d belongs to %s", i+1, got)
			}
		}
		if held := w.borrowed(t); len(held) > 0 {
			t.Errorf("the admin still holds %q", held)
		}
	})
}
