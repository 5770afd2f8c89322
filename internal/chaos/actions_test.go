package chaos

import (
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// breakThings does one thing after the other until the end.
func (w *world) breakThings(r *rand.Rand, end time.Time) {
	actions := []struct {
		weight int
		do     func(*rand.Rand)
	}{
		{10, func(r *rand.Rand) { w.edit(w.people[r.IntN(len(w.people))], newPolicy(r)) }},
		{4, w.killAdmins},
		{3, w.cutLink},
		{2, w.killGateway},
		{1, w.restartServer},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	for time.Now().Before(end) && !w.t.Failed() {
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond) // let things happen
		n := r.IntN(total)
		for _, a := range actions {
			if n -= a.weight; n < 0 {
				a.do(r)
				break
			}
		}
		w.checkStrangers()
	}
}

// killGateway kills a gateway and starts it again, after a while.
func (w *world) killGateway(r *rand.Rand) {
	g := w.gateways[r.IntN(len(w.gateways))]
	g.trouble.during(func() {
		g.env.Crash(w.t)
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		g.env.Restart(w.t)
	})
}

// restartServer stops PostgreSQL, properly or not, and starts it again.
func (w *world) restartServer(r *rand.Rand) {
	w.trouble.during(func() {
		if r.IntN(2) == 0 {
			w.server.Kill(w.t)
		}
		w.server.Restart(w.t)
	})
}

// killAdmins ends the admin's connections, which nobody may notice.
func (w *world) killAdmins(*rand.Rand) {
	w.server.Exec(w.t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'teleport-admin'`)
}

// cutLink breaks some of the connections between the gateways and the server.
func (w *world) cutLink(r *rand.Rand) {
	w.trouble.during(func() { w.link.cut(r) })
}

// strangers returns everything that the catalogs say about roles that are not ours.
func (w *world) strangers() (rows string) {
	conn := w.server.Superuser(w.t, "postgres")
	defer conn.Close(w.t.Context())
	err := conn.QueryRow(w.t.Context(), `SELECT json_build_object(
		'roles', (SELECT json_agg(to_jsonb(a) || jsonb_build_object('xmin', a.xmin::text, 'comment', shobj_description(a.oid, 'pg_authid')) ORDER BY a.rolname) FROM pg_authid a WHERE `+theirs+`),
		'members', (SELECT json_agg(to_jsonb(m) ORDER BY m.roleid, m.member, m.grantor) FROM pg_auth_members m JOIN pg_authid a ON a.oid = m.member
			WHERE a.rolname <> 'teleport-admin' AND `+theirs+`))::text`).Scan(&rows)
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

const theirs = `(a.rolname IN ('stranger', 'p0#12345678', 'teleport-auto', 'postgres', 'teleport-admin') OR a.rolname ~ '^r[0-9]$')
	AND NOT EXISTS (SELECT FROM pg_auth_members g WHERE g.member = a.oid AND g.roleid = to_regrole('"teleport-auto-user"') AND NOT g.admin_option)`

// checkStrangers: what is not ours stays as it is, whatever happens (P3).
func (w *world) checkStrangers() {
	if now := w.strangers(); now != w.stranger {
		w.t.Errorf("P3: roles that are not ours have changed\nfrom %s\nto   %s", w.stranger, now)
	}
}

// leftovers are accounts that can log in or hold roles, or are to be gone.
const leftovers = `SELECT DISTINCT a.rolname || CASE WHEN a.rolcanlogin THEN ' LOGIN ' ELSE ' ' END || COALESCE(shobj_description(a.oid, 'pg_authid'), '') || ' in ' ||
		(SELECT string_agg(r.rolname, ', ') FROM pg_auth_members o JOIN pg_authid r ON r.oid = o.roleid WHERE o.member = a.oid)
	FROM pg_authid a JOIN pg_auth_members m ON m.member = a.oid AND m.roleid = to_regrole('"teleport-auto-user"') AND NOT m.admin_option
	WHERE a.rolcanlogin OR a.rolname ~ '#' OR a.rolname ~ '^p[1357]' OR a.rolpassword IS NOT NULL
		OR EXISTS (SELECT FROM pg_auth_members o WHERE o.member = a.oid AND o.roleid <> m.roleid)`

// checkNothingLeft: when everybody has gone, so have all rights (P1).
func (w *world) checkNothingLeft() {
	conn := w.server.Superuser(w.t, "postgres")
	var left []string
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		rows, err := conn.Query(w.t.Context(), leftovers)
		if err != nil {
			w.t.Fatal(err)
		}
		if left, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			w.t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			w.t.Errorf("P1: after %s there is still %q", patience, left)
			break
		}
	}
	w.checkStrangers()
}
