package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/fault"
)

// Inheritor is the role that gets what accounts own which are dropped with [Reassign].
// Administrators make it; existing installations use this name.
const Inheritor = "teleport-object-inheritor"

// Giving away what an account owns is a part of a release: the account is locked, cannot log in
// and has no session. It is all or nothing in one logical database. What is moved
// is looked at after it was moved, under the locks that moving it took, so that nobody
// can slip in what would run with the inheritor's rights. See
// docs/decisions/0020-objects-of-dropped-users.md.

// estate is what an account owns in a logical database, and what the admin may do about it.
type estate struct {
	Version   int       `json:"version"`
	Superuser bool      `json:"superuser"` // the admin
	Acts      bool      `json:"acts"`      // the admin has the account's rights
	Inheritor inheritor `json:"inheritor"`

	belongings []belonging
}

// inheritor is the role [Inheritor].
type inheritor struct {
	Exists  bool     `json:"exists"`
	Open    bool     `json:"open"`     // it can log in
	Mighty  bool     `json:"mighty"`   // it has powers beyond what it owns
	Groups  []string `json:"groups"`   // those of ours that it is in: it is an account or a bundle
	Acts    bool     `json:"acts"`     // the admin has its rights
	AdminOf bool     `json:"admin_of"` // the admin can give itself its rights
}

// obstacle says why nothing can be given to the inheritor, or is empty.
func (i inheritor) obstacle(version int, superuser bool) string {
	switch {
	case !i.Exists:
		return "role " + quote(Inheritor) + " does not exist"
	case i.Open:
		return "role " + quote(Inheritor) + " can log in"
	case i.Mighty:
		return "role " + quote(Inheritor) + " has powers of its own"
	case len(i.Groups) > 0:
		return "role " + quote(Inheritor) + " is a member of " + quoteAll(i.Groups) + ", as managed roles are"
	case !superuser && !i.Acts && !i.AdminOf && version >= version16:
		return "the admin user is not a member of " + quote(Inheritor)
	}
	return ""
}

// belonging is an object that a role owns.
type belonging struct {
	ID       string   `json:"id"`
	What     string   `json:"what"`  // in PostgreSQL's words
	Fault    string   `json:"fault"` // why it must not be given away; empty: it is harmless
	Schema   string   `json:"schema"`
	Name     string   `json:"name"`
	Table    bool     `json:"table"`    // else it is a sequence
	Locked   bool     `json:"locked"`   // by our transaction
	Grantees []string `json:"grantees"` // who else has rights on it; "" is everybody
}

func (b belonging) reference() string { return quote(b.Schema) + "." + quote(b.Name) }

// bequeath gives what the account owns in the database of the connection to the inheritor, if all of it is
// harmless and the admin may; else it leaves everything as it is and notes why.
func (r *release) bequeath(ctx context.Context, t *transaction, out *Outcome) error {
	if out.NotMoved = r.unreached; out.NotMoved != "" {
		return nil
	}
	var e estate
	var owned []string
	var b batch
	b.params(rightsSQL(), [][]byte{[]byte(r.user)}, func(res *pgconn.Result) error { return decodeJSON(res, &e) })
	b.params(ownedSQL, [][]byte{[]byte(r.user)}, func(res *pgconn.Result) error { return decodeJSON(res, &owned) })
	if err := b.run(ctx, t.conn); err != nil || len(owned) == 0 {
		return err
	}
	if out.NotMoved = e.Inheritor.obstacle(e.Version, e.Superuser); out.NotMoved != "" {
		return nil
	}
	b = batch{}
	b.belongings(r.user, nil, &e.belongings)
	if err := b.run(ctx, t.conn); err != nil {
		return err
	}
	if out.NotMoved = unfit(e.belongings); out.NotMoved != "" {
		return nil
	}
	m := &move{conn: t.conn, user: r.user, estate: e}
	if _, err := t.conn.Exec(ctx, "SAVEPOINT before_move").ReadAll(); err != nil {
		return err
	}
	why, err := m.run(ctx)
	if err != nil {
		return err
	}
	if why != "" {
		out.NotMoved = why
		_, err := t.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT before_move").ReadAll()
		return err
	}
	t.done = append(t.done, m.done...)
	out.Moved = m.moved
	return nil
}

// unfit says which of the objects must not be given away, or is empty.
func unfit(objects []belonging) string {
	var faults []string
	for _, o := range objects {
		if o.Fault != "" {
			faults = append(faults, o.What+": "+o.Fault)
		}
	}
	if n := len(faults) - namedAtMost; n > 0 {
		faults = append(faults[:namedAtMost], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(faults, "; ")
}

// move moves an estate within a transaction.
type move struct {
	conn *pgconn.PgConn
	user string
	estate

	borrowed []string // roles whose rights the admin has for now
	done     []statement
	moved    []string // what the inheritor has got
}

// How long a move may take. It holds the account's lock, and the tables are out of use meanwhile.
const (
	lockWait       = "5s" // for one table
	lockTablesWait = "6s" // for all of them
	moveWait       = "4s" // for each of the other statements
)

// run returns why the objects were not moved; then the transaction is to be rolled back to
// where it was before. Errors are those that end a release, or have it done again.
func (m *move) run(ctx context.Context) (why string, err error) {
	var before []string
	var after []belonging
	var locked, moved batch
	locked.exec("SET LOCAL lock_timeout = '"+lockWait+"'", nil)
	locked.exec("SET LOCAL statement_timeout = '"+lockTablesWait+"'", nil)
	if !m.Superuser && !m.Acts {
		m.borrow(&locked, m.user)
	}
	if sql := m.lockTables(); sql != "" {
		m.add(&locked, sql)
	}
	locked.exec("SET LOCAL statement_timeout = '"+moveWait+"'", nil)
	locked.belongings(m.user, nil, &m.belongings) // whom to revoke from, now that the tables are locked
	if err := locked.run(ctx, m.conn); err != nil {
		return refusedBy(err)
	}
	if sql := m.revokeGrants(); sql != "" {
		m.add(&moved, sql)
	}
	moved.params(ownedSQL, [][]byte{[]byte(Inheritor)}, func(r *pgconn.Result) error { return decodeJSON(r, &before) })
	if err := moved.run(ctx, m.conn); err != nil {
		return refusedBy(err)
	}
	moved = batch{}
	if !m.Superuser && !m.Inheritor.Acts {
		m.borrow(&moved, Inheritor) // not before: since 16 it locks the role, which others wait for too
	}
	m.add(&moved, "REASSIGN OWNED BY "+quote(m.user)+" TO "+quote(Inheritor))
	for _, role := range m.borrowed {
		m.add(&moved, "REVOKE "+quote(role)+" FROM CURRENT_USER"+m.returning())
	}
	moved.belongings(Inheritor, before, &after)
	moved.exec("SET LOCAL statement_timeout = '"+statementTimeout+"'", nil)
	if err := moved.run(ctx, m.conn); err != nil {
		return refusedBy(err)
	}
	return m.judge(after), nil
}

// judge looks at what the inheritor has got. What is not locked came from somebody
// else's release, who has judged it.
func (m *move) judge(after []belonging) string {
	if why := unfit(after); why != "" {
		return why
	}
	got := map[string]belonging{}
	for _, o := range after {
		got[o.ID] = o
		if !o.Locked {
			continue
		}
		m.moved = append(m.moved, o.What)
		if len(o.Grantees) > 0 {
			return o.What + ": rights on it were granted meanwhile"
		}
	}
	for _, o := range m.belongings {
		if !got[o.ID].Locked {
			return o.What + " has changed meanwhile"
		}
	}
	return ""
}

// borrow gives the admin the rights of a role until they are taken back before the commit.
func (m *move) borrow(b *batch, role string) {
	options := ""
	if m.Version >= version16 {
		options = " WITH ADMIN FALSE, INHERIT TRUE, SET FALSE"
	}
	m.borrowed = append(m.borrowed, role)
	m.add(b, "GRANT "+quote(role)+" TO CURRENT_USER"+options)
}

func (m *move) returning() string {
	if m.Version < version16 {
		return ""
	}
	return " GRANTED BY CURRENT_USER" // ADMIN OPTION, which others gave, stays
}

// lockTables returns the statement that locks the tables, or "". Sequences cannot be locked
// this way; moving them does.
func (m *move) lockTables() string {
	var tables []string
	for _, o := range m.belongings {
		if o.Table {
			tables = append(tables, o.reference())
		}
	}
	if len(tables) == 0 {
		return ""
	}
	return "LOCK TABLE " + strings.Join(tables, ", ") + " IN ACCESS EXCLUSIVE MODE"
}

// revokeGrants returns the statement that takes everybody else's rights, or "".
func (m *move) revokeGrants() string {
	var objects, grantees []string
	for _, o := range m.belongings {
		if len(o.Grantees) > 0 {
			objects = append(objects, o.reference())
		}
		for _, role := range o.Grantees {
			if role == "" {
				grantees = append(grantees, "PUBLIC")
			} else {
				grantees = append(grantees, quote(role))
			}
		}
	}
	if len(objects) == 0 {
		return ""
	}
	slices.Sort(grantees)
	return "REVOKE ALL ON TABLE " + strings.Join(objects, ", ") + " FROM " + strings.Join(slices.Compact(grantees), ", ") + " CASCADE"
}

// add puts a statement on the batch, and on record when it was carried out.
func (m *move) add(b *batch, sql string) {
	b.exec(sql, func(_ *pgconn.Result, err error) error {
		if err == nil {
			m.done = append(m.done, statement{action: bequeath, user: m.user, text: sql})
		}
		return err
	})
}

// refusedBy returns PostgreSQL's reason for an error that will not pass by itself.
func refusedBy(err error) (why string, other error) {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || slices.Contains(passing, pg.Code) {
		return "", err
	}
	return pg.Message, nil
}

// belongings adds the question what a role owns, but for some objects.
func (b *batch) belongings(owner string, except []string, into *[]belonging) {
	if except == nil {
		except = []string{}
	}
	ids, err := json.Marshal(except)
	if err != nil {
		panic(err) // a list of strings always has a JSON form
	}
	b.params(belongingsSQL(), [][]byte{[]byte(owner), ids}, func(r *pgconn.Result) error {
		*into = nil
		return decodeJSON(r, into)
	})
}

// connected calls work with a connection to the logical database where the account owns
// something, if that is to be given away and the admin gets in, else to where it works.
func (r *release) connected(ctx context.Context, work func(*pgconn.PgConn) error) error {
	if r.mode != Reassign || r.estate == "" || r.estate == r.database {
		return r.s.withConn(ctx, r.database, work)
	}
	if err := r.s.withConn(ctx, r.estate, func(*pgconn.PgConn) error { return nil }); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.unreached = fault.Of(err).Text
		return r.s.withConn(ctx, r.database, work)
	}
	return r.s.withConn(ctx, r.estate, work)
}
