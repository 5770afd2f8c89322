package provision

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// convergence makes one bundle equal to policy, or empty, or drops it.
type convergence struct {
	s           *Server
	name        string
	comment     string                                         // without the time of last use
	permissions func([]access.Object) access.ObjectPermissions // nil: nothing
	drop        bool                                           // when it is empty
	guard       func(bundleState) error                        // looks at each state observed under the lock; may be nil

	have        bundleState
	fingerprint string
	want        rights
	missing     []change // grants that the admin cannot make
	stuck       []change // revocations that the admin cannot make
	done        []string
	taken       []objectID // from which something was revoked
	created     bool
}

// bundleRounds bounds how often one transaction plans again. Two rounds are the
// rule. More are needed when the admin's grant options come through several roles, of
// which GRANT uses one at a time.
const bundleRounds = 5

// run observes, plans, and carries the plan out in one transaction which ends
// with an observation that finds nothing more to do. It is repeatable.
func (c *convergence) run(ctx context.Context, conn *pgconn.PgConn) error {
	if err := c.s.frozen(); err != nil {
		return err
	}
	err := c.transact(ctx, conn)
	if err != nil && !conn.IsClosed() && conn.TxStatus() != 'I' {
		if _, rollback := conn.Exec(ctx, "ROLLBACK").ReadAll(); rollback != nil {
			err = errors.Join(err, rollback)
		}
	}
	return err
}

func (c *convergence) transact(ctx context.Context, conn *pgconn.PgConn) error {
	c.done, c.taken, c.created = nil, nil, false
	var b batch
	b.bundle(c.name, &c.have, &c.fingerprint)
	if err := b.run(ctx, conn); err != nil {
		return err
	}
	if c.drop && !c.have.exists() {
		return nil
	}
	begun := false
	for round := range bundleRounds {
		possible, err := c.plan(ctx, conn)
		if err != nil {
			return err
		}
		if round == bundleRounds-1 {
			c.giveUp(possible)
			possible = nil
		}
		steps := c.planRole(!begun && (len(possible) > 0 || c.drop))
		if round > 1 {
			steps = nil // what is left of the role is out of reach, see verdict
		}
		if len(steps)+len(possible) == 0 {
			break
		}
		if err := c.s.checkBundleAdmin(&c.have, c.name); err != nil {
			return err
		}
		if err := c.carryOut(ctx, conn, begun, steps, possible); err != nil {
			return err
		}
		begun = true
		if c.guard != nil {
			if err := c.guard(c.have); err != nil {
				return err
			}
		}
	}
	if err := c.verdict(); err != nil {
		return err
	}
	if !begun {
		return nil
	}
	return c.commit(ctx, conn)
}

// plan compares what is with what policy says, and returns the changes that can be made.
func (c *convergence) plan(ctx context.Context, conn *pgconn.PgConn) (possible []change, err error) {
	switch {
	case c.have.Recovery:
		return nil, readOnlyFault(nil)
	case c.have.exists() && !c.have.Role.Marked:
		return nil, refusal(fault.Conflict, codeDuplicateObject, fmt.Sprintf("role %q is not managed by Postern", c.name)).
			WithHint("rename or drop that role; bundles are members of " + quote(BundleGroup))
	}
	if c.want, err = resolveRights(&c.have, c.permissions); err != nil {
		return nil, err
	}
	if c.have.hasStrays() {
		var b batch
		b.params(straysSQL, [][]byte{[]byte(c.name)}, func(r *pgconn.Result) error { return decodeJSON(r, &c.have.strays) })
		if err := b.run(ctx, conn); err != nil {
			return nil, err
		}
	}
	c.missing, c.stuck = nil, nil
	changes := planBundle(c.have.objects, &c.want)
	if len(changes) == 0 {
		return nil, nil
	}
	reaches := map[objectID]reach{}
	var b batch
	b.reach(changes, reaches)
	if err := b.run(ctx, conn); err != nil {
		return nil, err
	}
	possible, c.missing, c.stuck = split(changes, reaches, closedSchemas(c.have.objects))
	return possible, nil
}

// planRole returns the statements on the role itself. A bundle that is
// emptied is not marked as used.
func (c *convergence) planRole(lock bool) []Step {
	stamped := c.have.Role.Comment
	if c.permissions != nil && commentIsOld(stamped, c.have.Now) {
		stamped, lock = stampComment(c.comment, c.have.Now), true
	}
	return planBundleRole(&c.have, c.name, stamped, lock)
}

// giveUp counts changes that were tried and did not come about as out of reach.
func (c *convergence) giveUp(tried []change) {
	for _, t := range tried {
		if t.grant != 0 {
			c.missing = append(c.missing, t)
		}
		if t.revoke|t.unoption != 0 {
			c.stuck = append(c.stuck, t)
		}
	}
}

// carryOut sends the statements and the observation that verifies them in one round trip.
func (c *convergence) carryOut(ctx context.Context, conn *pgconn.PgConn, begun bool, role []Step, possible []change) error {
	var b batch
	if !begun {
		b.exec("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", nil)
		// Losing a grant in a crash of the server is the safe direction, losing a
		// revocation is not.
		if !c.drop && !slices.ContainsFunc(possible, func(c change) bool { return c.revoke|c.unoption != 0 }) {
			b.exec("SET LOCAL synchronous_commit = off", nil)
		}
	}
	c.created = c.created || !c.have.exists()
	for _, change := range possible {
		if change.revoke != 0 {
			c.taken = append(c.taken, change.object.id())
		}
	}
	for _, sql := range append(sqlOf(role), bundleStatements(c.name, possible)...) {
		b.exec(sql, func(_ *pgconn.Result, err error) error {
			if err != nil {
				return c.s.bundleFault(sql, err)
			}
			c.done = append(c.done, sql)
			return nil
		})
	}
	b.bundle(c.name, &c.have, &c.fingerprint)
	return b.run(ctx, conn)
}

// verdict refuses a bundle that has more than policy gives.
func (c *convergence) verdict() error {
	if steps, over := powersOfBundle(&c.have, c.name); over || len(steps) > 0 {
		return c.overfull("attributes or memberships of the role itself")
	}
	return c.overfull()
}

// overfull refuses a bundle with rights that the admin may not revoke: those named, those
// that were found on objects, and those outside of what bundles have rights on.
func (c *convergence) overfull(leftover ...string) error {
	leftover = append(slices.Clone(c.have.strays), leftover...)
	for _, s := range c.stuck {
		leftover = append(leftover, objectWord(s.object)+" "+objectReference(s.object, s.reach.arguments))
	}
	if len(leftover) == 0 || c.permissions == nil && !c.drop {
		return nil
	}
	more := ""
	if n := len(leftover) - namedAtMost; n > 0 {
		leftover, more = leftover[:namedAtMost], fmt.Sprintf(" and %d more", n)
	}
	return refusal(fault.Conflict, codeInsufficientRights, fmt.Sprintf("bundle %q holds rights that policy does not give and that the admin user may not revoke", c.name)).
		WithDetail("on: " + strings.Join(leftover, ", ") + more).
		WithHint(fmt.Sprintf("revoke them in database %q, as the role that granted them; a bundle holds nothing but object permissions", c.have.Database))
}

// namedAtMost bounds lists in texts for people.
const namedAtMost = 8

func (c *convergence) commit(ctx context.Context, conn *pgconn.PgConn) error {
	if c.drop {
		sql := "DROP ROLE " + quote(c.name)
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return c.s.bundleFault(sql, err)
		}
		c.done = append(c.done, sql)
	}
	_, err := conn.Exec(ctx, "COMMIT").ReadAll()
	return err
}

// movedAttempts is how often a plan is made again whose objects have gone
// meanwhile, or whose locks somebody held for too long.
const movedAttempts = 10

// moved are the SQLSTATEs of statements that name what was there a moment ago.
var moved = []string{
	"42P01", // table
	"42883", // function
	"3F000", // schema
	"42809", // another kind of object has the name now
	"42725", // … or two
	"55P03", // another agent makes the same bundle, and it is a big one
}

// converge runs c in a logical database, and again when it met somebody else's change.
func (s *Server) converge(ctx context.Context, database string, c *convergence) error {
	for attempt := 1; ; attempt++ {
		err := s.withConn(ctx, database, func(conn *pgconn.PgConn) error { return c.run(ctx, conn) })
		if err == nil || attempt == movedAttempts || !slices.Contains(moved, codeOf(err)) {
			return err
		}
	}
}

// verified is a bundle as it was found or made equal to policy. It does not change.
type verified struct {
	at          time.Time
	stamped     time.Time // when, by the clock of this process, the comment said that it is used
	fingerprint string
	revision    any
	digest      [sha256.Size]byte
	have        bundleState // what the digest was computed from
	result      BundleResult
}
