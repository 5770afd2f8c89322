package provision

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Who goes on to use a right that was taken away: PostgreSQL checks rights when a statement begins. A cursor that
// is open, or a statement that runs, goes on until its transaction ends. Of relations
// that is to be seen: a statement locks what it names before it looks at the rights, and the
// locks stay until the end of the transaction, or of the savepoint with which its cursors go
// too. See docs/decisions/0011-running-sessions.md.

// Loss is what a bundle has been found or made to hold no longer.
type Loss struct {
	relations []int64
	unseen    bool // also something of which PostgreSQL does not show who uses it: a routine, a schema
}

func (l Loss) empty() bool { return !l.unseen && len(l.relations) == 0 }

// And returns both losses together.
func (l Loss) And(other Loss) Loss {
	return Loss{append(slices.Clone(l.relations), other.relations...), l.unseen || other.unseen}
}

// add notes an object.
func (l *Loss) add(id objectID) {
	if id.class == classRelation {
		l.relations = append(l.relations, int64(id.oid))
	} else {
		l.unseen = true
	}
}

// loses returns what the bundle held before, by whosever doing it holds it no longer, and what was
// taken from it just now although nobody knew that it held it.
func (c *convergence) loses(before *verified) Loss {
	var lost Loss
	for _, id := range c.taken {
		lost.add(id)
	}
	if before == nil {
		return lost
	}
	now := make(map[objectID]privileges, len(c.have.objects))
	for i := range c.have.objects {
		now[c.have.objects[i].id()] = c.have.objects[i].held
	}
	for i := range before.have.objects {
		o := &before.have.objects[i]
		if held, exists := now[o.id()]; exists && o.held&^held != 0 { // nobody reads what was dropped
			lost.add(o.id())
		}
	}
	return lost
}

// lingerWait is how long transactions are waited for that were running when rights
// were taken away: most statements take milliseconds.
const lingerWait = 250 * time.Millisecond

// locksCTE begins the question which transactions of the backends $1 may use what was lost. Every transaction
// holds a lock on its virtual id. pg_locks tells everybody, other than what pg_stat_activity
// says about others.
const locksCTE = `
WITH locks AS MATERIALIZED (
  SELECT pid, locktype, database, relation, virtualxid, virtualtransaction FROM pg_catalog.pg_locks
  WHERE granted AND locktype IN ('virtualxid', 'relation') AND pid = ANY ($1::pg_catalog.int4[])
), running AS MATERIALIZED (
  SELECT pid, virtualtransaction FROM locks WHERE locktype = 'virtualxid' AND virtualxid = virtualtransaction
), db AS MATERIALIZED (
  SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
), used AS MATERIALIZED (
  SELECT DISTINCT l.pid, l.virtualtransaction, l.relation FROM locks l JOIN db ON db.oid = l.database WHERE l.locktype = 'relation'
)`

// answer is the end of that question. What holds is a condition on rows of used.
func answer(unseen, lost string) string {
	return `
SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'holding', COALESCE((SELECT pg_catalog.json_agg(r.pid || ' ' || r.virtualtransaction) FROM running r
    WHERE ` + unseen + ` OR EXISTS (SELECT FROM used u WHERE u.pid = r.pid AND u.virtualtransaction = r.virtualtransaction AND ` + lost + `)), '[]'))`
}

// lostSQL asks about a loss: $2 are the relations, $3 says that there is more that is not seen.
func lostSQL() string {
	return locksCTE + answer(`$3::pg_catalog.bool`, `u.relation = ANY ($2::pg_catalog.oid[])`)
}

// leftSQL asks what the account $2 cannot do any more since it has left the bundle $3.
func leftSQL() string {
	return locksCTE + `, acc AS MATERIALIZED (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2::pg_catalog.text::pg_catalog.name
), bundle AS MATERIALIZED (
  SELECT $3::pg_catalog.text::pg_catalog.regrole::pg_catalog.oid AS oid -- an error when there is none
), unseen AS MATERIALIZED (
  SELECT EXISTS (SELECT FROM pg_catalog.pg_shdepend d, db, acc, bundle
    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = bundle.oid AND d.deptype = 'a' AND d.dbid = db.oid
      AND CASE d.classid
        WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN NOT pg_catalog.has_function_privilege(acc.oid, d.objid, 'EXECUTE')
        WHEN 'pg_catalog.pg_namespace'::pg_catalog.regclass THEN NOT pg_catalog.has_schema_privilege(acc.oid, d.objid, 'USAGE')
        ELSE false END) AS something
)` + answer(`(SELECT something FROM unseen)`, `EXISTS (
      SELECT FROM acc, bundle, pg_catalog.unnest(CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 170000
        THEN '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}' ELSE '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER,MAINTAIN}'
        END::pg_catalog.text[]) AS p(privilege)
      WHERE pg_catalog.has_table_privilege(bundle.oid, u.relation, p.privilege) AND NOT pg_catalog.has_table_privilege(acc.oid, u.relation, p.privilege))`)
}

// Lingers reports whether the session may still use what its bundle has lost. Transactions that may are given a moment to end; who is in none,
// or in one that has not touched any of it, may not.
func (l *Lease) Lingers(ctx context.Context, lost Loss) (bool, error) {
	if lost.empty() {
		return false, nil
	}
	return l.lingers(ctx, func(b *batch, pids []byte, into *holders) {
		unseen := "f"
		if lost.unseen {
			unseen = "t"
		}
		b.params(lostSQL(), [][]byte{pids, arrayText(lost.relations), []byte(unseen)}, func(r *pgconn.Result) error { return decodeJSON(r, into) })
	}, false)
}

// LingersOn reports whether the session may still use what its account lost when it was taken
// off a bundle. Before version 16 everybody may: the session may have become
// the bundle with SET ROLE, which it stays.
func (l *Lease) LingersOn(ctx context.Context, bundle string) (bool, error) {
	user := l.User()
	return l.lingers(ctx, func(b *batch, pids []byte, into *holders) {
		b.params(leftSQL(), [][]byte{pids, []byte(user), []byte(quote(bundle))}, func(r *pgconn.Result) error { return decodeJSON(r, into) })
	}, true)
}

// holders are the transactions that may use what was lost.
type holders struct {
	Version int      `json:"version"`
	Holding []string `json:"holding"`
}

// lingers asks until no transaction is left of those that came first. One that is not among them began to
// use the relations later, and was told that it may not.
func (l *Lease) lingers(ctx context.Context, ask func(b *batch, pids []byte, into *holders), left bool) (bool, error) {
	l.mu.Lock()
	database := l.wanted.DatabaseName
	var pids []int64
	for _, pid := range l.pids {
		pids = append(pids, int64(pid))
	}
	l.mu.Unlock()
	var old []string
	first, lingers := true, false
	err := poll(ctx, lingerWait, func() (bool, error) {
		var now holders
		err := l.s.withConn(ctx, database, func(conn *pgconn.PgConn) error {
			var b batch
			ask(&b, arrayText(pids), &now)
			return b.run(ctx, conn)
		})
		if first {
			old, first = now.Holding, false
		}
		old = slices.DeleteFunc(old, func(transaction string) bool { return !slices.Contains(now.Holding, transaction) })
		escaped := left && now.Version < version16
		lingers = escaped || len(old) > 0
		return !lingers || escaped, err
	})
	return lingers, err
}
