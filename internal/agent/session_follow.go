package agent

import (
	"context"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// recheck decides again on every session, with newer resources or labels, and has the
// bundles in use compared with them.
func (s *Server) recheck(view View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	provisioners := map[*provision.Server]bool{}
	for _, d := range s.databases {
		provisioners[d.provisioner] = true
	}
	for sess := range s.sessions {
		if sess.admitted {
			provisioners[sess.database.provisioner] = true // of a database that has changed since
		}
		s.recheckSession(sess, view)
	}
	for p := range provisioners {
		if p != nil {
			p.PolicyChanged()
		}
	}
}

// recheckSession ends a session that would be refused now, and one that would be
// given fewer db roles: after a SET ROLE, PostgreSQL would let it go on with a
// role that is no longer granted. Other changes are handed to the session. s.mu is held.
func (s *Server) recheckSession(sess *session, view View) {
	if !sess.admitted {
		return // it will be decided on, with these resources or newer ones
	}
	d, served := s.databases[sess.database.resource.GetName()]
	if !served {
		return // given up: its sessions have been ended
	}
	if !d.labels.ready() {
		return // when they are known, all is rechecked
	}
	decision, err := sess.evaluate(view, d)
	if err != nil {
		sess.end(endRevoked(fault.Of(err)))
		return
	}
	sess.setLimits(decision.Limits)
	lost, changed := sess.compare(decision)
	switch {
	case lost != nil:
		sess.end(endNarrowed(lost))
	case changed:
		sess.offer(decision)
	}
}

// hold notes what the session was given. Resources and labels that changed since the
// decision may have come too early for recheck to see them.
func (s *session) hold(decided, roles []string, entries []access.Permission) {
	s.mu.Lock()
	s.held = &holding{decided: decided, roles: roles, entries: entries, bundle: roleOf(s.bundle)}
	s.mu.Unlock()
	if view, _ := s.agent.cfg.View(); view != s.view || s.relabels != s.agent.relabels.Load() {
		s.agent.mu.Lock()
		defer s.agent.mu.Unlock()
		s.agent.recheckSession(s, view)
	}
}

// compare returns the db roles that the session holds and would not be given now,
// and whether it would be given more of them or other object permissions.
func (s *session) compare(d access.Decision) (lost []string, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return nil, false // not given any yet
	}
	for _, held := range s.held.roles {
		if !slices.Contains(d.DatabaseRoles, held) {
			lost = append(lost, held)
		}
	}
	return lost, !slices.Equal(s.held.decided, d.DatabaseRoles) || !sameEntries(s.held.entries, d.Permissions)
}

// offer is what policy said at some time, where that was something else than the session had.
type offer struct {
	access.Decision
	due bool // the session is to be given it
}

// offer hands the session what policy says now. The latest offer counts.
func (s *session) offer(d access.Decision) {
	s.mu.Lock()
	s.offered = &offer{Decision: d, due: true}
	s.mu.Unlock()
	s.following.ask()
}

// offerAgain hands the session what PostgreSQL had no time for, unless policy has said
// something else since.
func (s *session) offerAgain(o *offer) {
	s.mu.Lock()
	o.due = s.offered == o
	s.mu.Unlock()
	s.following.ask()
}

// takeOffer returns what the session is to be given, or nil.
func (s *session) takeOffer() *offer {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.offered
	if o == nil || !o.due {
		return nil
	}
	o.due = false
	return o
}

// bundleNarrowed has the sessions that hold a bundle look whether they hold on to
// what it has lost.
func (s *Server) bundleNarrowed(role string, lost provision.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		if sess.loses(role, lost) {
			sess.following.ask()
		}
	}
}

// loses notes what the session has lost, if it holds the bundle or may do so.
func (s *session) loses(role string, lost provision.Loss) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.held == nil || s.held.bundle != role) && !slices.Contains(s.moving, role) {
		return false
	}
	s.lost = s.lost.And(lost)
	return true
}

// settleLoss looks into what the session's bundle holds no longer.
func (s *session) settleLoss(ctx context.Context) {
	s.mu.Lock()
	lost := s.lost
	s.lost = provision.Loss{}
	s.mu.Unlock()
	s.settle(ctx, func() (bool, error) { return s.lease.Lingers(ctx, lost) })
}

// owedPause is the time until a session is tried to be given what PostgreSQL had no time for.
const owedPause = 2 * time.Second

// followPolicy does what there is to do about the running session: it looks into what its
// bundles have lost, and rearranges the account as was offered.
func (s *session) followPolicy(ctx context.Context) {
	s.settleLoss(ctx)
	if next := s.takeOffer(); next != nil && s.rearrange(ctx, next.Decision) {
		time.AfterFunc(owedPause, func() { s.offerAgain(next) })
	}
}
