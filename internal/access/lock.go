package access

import (
	"slices"
	"time"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// checkLocks refuses a session that a lock hits.
func (e *evaluation) checkLocks() bool {
	if len(e.policy.locks) == 0 {
		return true
	}
	now := e.policy.now()
	for _, l := range e.policy.locks {
		if !lockInForce(l, now) || !e.lockHits(&l.Spec.Target) {
			continue
		}
		text := "a lock is in force"
		if l.Spec.Message != "" {
			text += ": " + l.Spec.Message
		}
		return e.refuse(Denied, fault.New(fault.Denied, text).WithHint("ask an administrator about the lock "+l.GetName()),
			Reason{Effect: EffectDeny, Rule: RuleLock, Text: "lock " + l.GetName() + " is in force"})
	}
	return true
}

// lockInForce reports whether a lock has not expired.
func lockInForce(l *resource.Lock, now time.Time) bool {
	return l.Spec.Expires.IsZero() || now.Before(l.Spec.Expires.Std())
}

// lockHits reports whether a session agrees with every field of a target that is
// set. Fields that database sessions do not have, such as an MFA device, narrow a
// target in a way that cannot be checked; beside others they are taken to agree,
// and alone they hit nothing.
func (e *evaluation) lockHits(t *resource.LockTarget) bool {
	if !canHit(t) {
		return false
	}
	agrees := func(want, have string) bool { return want == "" || want == have }
	return agrees(t.User, e.user) && agrees(t.Login, e.q.DatabaseUser) && agrees(t.Database, e.q.Database.GetName()) &&
		agrees(t.ServerID, e.q.ServerID) &&
		(t.Role == "" || slices.ContainsFunc(e.roles, func(r *boundRole) bool { return r.name == t.Role }))
}

// canHit reports whether a target names anything that database sessions have.
func canHit(t *resource.LockTarget) bool {
	return t.User != "" || t.Role != "" || t.Login != "" || t.Database != "" || t.ServerID != ""
}
