package access

import (
	"fmt"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/resource"
)

// Limits are the options of a session, combined over all roles of the user and the
// settings of the cluster.
type Limits struct {
	MaxSessionTTL         time.Duration           // the smallest; caps certificates and sessions
	MaxConnections        int64                   // the smallest that is not zero; zero: unlimited
	ClientIdleTimeout     time.Duration           // the smallest that is not zero; zero: never
	DisconnectExpiredCert bool                    // if the cluster or any role says so
	LockMode              resource.LockMode       // strict if any role says so, else best effort if any does, else the cluster's
	Record                resource.RecordLevel    // the most that any role asks for; full when none says
	ParallelSets          resource.ParallelSets   // refuse if any role says so, else sibling
	OnMissingGrant        resource.OnMissingGrant // warn if a role says so and none says refuse, else refuse
	AllowReplication      bool                    // if a role that grants the access says so
}

// limited is [Limits] with the role that each comes from.
type limited struct {
	Limits
	ttlRole, connectionsRole, idleRole, expiredRole, lockRole, recordRole, parallelRole, missingRole string
}

// limits combines the options of roles with the cluster's settings.
func (s settings) limits(roles []*boundRole) limited {
	l := limited{Limits: Limits{ClientIdleTimeout: s.clientTimeout, DisconnectExpiredCert: s.disconnect}}
	for i := range roles {
		l.add(roles[i].name, &roles[i].options)
	}
	if l.MaxSessionTTL == 0 {
		l.MaxSessionTTL = resource.DefaultMaxSessionTTL.Std()
	}
	setDefault(&l.LockMode, s.lockMode)
	setDefault(&l.Record, resource.RecordFull)
	setDefault(&l.ParallelSets, resource.ParallelSibling)
	setDefault(&l.OnMissingGrant, resource.MissingGrantRefuse)
	return l
}

// add takes the options of one more role into account.
func (l *limited) add(role string, o *resource.RoleOptions) {
	smallest(&l.MaxSessionTTL, maxSessionTTL(o), &l.ttlRole, role)
	smallest(&l.MaxConnections, o.MaxConnections, &l.connectionsRole, role)
	smallest(&l.ClientIdleTimeout, o.ClientIdleTimeout.Std(), &l.idleRole, role)
	if o.DisconnectExpiredCert && !l.DisconnectExpiredCert {
		l.DisconnectExpiredCert, l.expiredRole = true, role
	}
	strongest(&l.LockMode, o.Lock, &l.lockRole, role, resource.LockBestEffort, resource.LockStrict)
	strongest(&l.Record, o.RecordLevel(), &l.recordRole, role, resource.RecordNone, resource.RecordTag, resource.RecordFull)
	strongest(&l.ParallelSets, o.ParallelSets, &l.parallelRole, role, resource.ParallelSibling, resource.ParallelRefuse)
	strongest(&l.OnMissingGrant, o.OnMissingGrant, &l.missingRole, role, resource.MissingGrantWarn, resource.MissingGrantRefuse)
}

func maxSessionTTL(o *resource.RoleOptions) time.Duration {
	if o.MaxSessionTTL > 0 {
		return o.MaxSessionTTL.Std()
	}
	return resource.DefaultMaxSessionTTL.Std()
}

// smallest keeps the smaller of two numbers of which zero means none.
func smallest[T int64 | time.Duration](kept *T, value T, keptRole *string, role string) {
	if value > 0 && (*kept == 0 || value < *kept) {
		*kept, *keptRole = value, role
	}
}

// strongest keeps the value that comes later in order. Empty comes first.
func strongest[T ~string](kept *T, value T, keptRole *string, role string, order ...T) {
	if value != "" && slices.Index(order, value) > slices.Index(order, *kept) {
		*kept, *keptRole = value, role
	}
}

func setDefault[T ~string](kept *T, value T) {
	if *kept == "" {
		*kept = value
	}
}

// reasons says where each limit comes from, leaving out those at their default.
func (l *limited) reasons() []Reason {
	var out []Reason
	note := func(role, format string, value any) {
		if role != "" {
			out = append(out, Reason{Effect: EffectLimit, Rule: RuleLimits, Role: role, Text: fmt.Sprintf(format, value)})
		}
	}
	note(l.ttlRole, "certificates and sessions live at most %s", resource.Duration(l.MaxSessionTTL))
	note(l.connectionsRole, "at most %d connections", l.MaxConnections)
	note(l.idleRole, "idle sessions end after %s", resource.Duration(l.ClientIdleTimeout))
	note(l.expiredRole, "sessions end when the certificate expires: %t", l.DisconnectExpiredCert)
	note(l.lockRole, "locking is %s", l.LockMode)
	note(l.recordRole, "sessions are recorded: %s", l.Record)
	note(l.parallelRole, "sessions with other db roles: %s", l.ParallelSets)
	note(l.missingRole, "grants that the admin user cannot give: %s", l.OnMissingGrant)
	return out
}

// Limits returns the limits of the bound user, which are the same for every database.
func (b *Bound) Limits() Limits { return b.limits.Limits }
