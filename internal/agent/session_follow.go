package agent

import (
	"context"
	"slices"
	"time"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
)

// recheck decides again on every session, with newer resources.
func (s *Server) recheck(view View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		s.recheckSession(sess, view)
	}
}

// offer is what policy gives a running session now.
type offer struct {
	roles   []string
	objects []access.Permission
}

// recheckSession ends a session that would be refused now, and one that would be
// given less where PostgreSQL lets it keep that: after a SET ROLE, a session goes on
// with a role that is no longer granted. Others are given what policy says. s.mu is
// held.
func (s *Server) recheckSession(sess *session, view View) {
	if !sess.admitted {
		return // it will be decided on, with these resources or newer ones
	}
	d, served := s.databases[sess.database.resource.GetName()]
	if !served {
		return // given up: its sessions have been ended
	}
	decision, err := sess.evaluate(view, d)
	if err != nil {
		sess.end(endRevoked(fault.Of(err)))
		return
	}
	sess.setLimits(decision.Limits)
	next := offer{decision.DatabaseRoles, decision.Permissions}
	now, given := sess.holds()
	if !given {
		return
	}
	if lost := missing(now.roles, next.roles); len(lost) > 0 {
		sess.end(endNarrowed(lost))
		return
	}
	if sess.mayBecomeBundles() && takesObjects(now.objects, next.objects) {
		sess.end(endNarrowedObjects())
		return
	}
	if len(missing(next.roles, now.roles)) > 0 || !sameObjects(now.objects, next.objects) {
		sess.offer(next)
	}
}

// missing returns the names of a list that another one does not have.
func missing(of, in []string) []string {
	return slices.DeleteFunc(slices.Clone(of), func(name string) bool { return slices.Contains(in, name) })
}

// hold notes what the session was given. Resources that changed since the decision
// may have come too early for recheck to see it.
func (s *session) hold(given offer) {
	s.mu.Lock()
	s.given = &given
	s.mu.Unlock()
	if view, _ := s.agent.cfg.View(); view != s.view {
		s.agent.mu.Lock()
		defer s.agent.mu.Unlock()
		s.agent.recheckSession(s, view)
	}
}

// holds returns what the session was given, if it was.
func (s *session) holds() (offer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		return offer{}, false
	}
	return *s.given, true
}

// offer hands the session what policy gives it. The latest offer counts.
func (s *session) offer(o offer) {
	for {
		select {
		case s.offers <- o:
			return
		case <-s.offers:
		}
	}
}

// offerAgain is the pause before an offer is tried again that could not be taken.
const offerAgain = 2 * time.Second

// takeOffers changes what the account holds while the session runs.
func (s *session) takeOffers(ctx context.Context) {
	var latest offer
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case latest = <-s.offers:
		case <-again:
		}
		again = nil
		if err := s.take(ctx, latest); err != nil && ctx.Err() == nil {
			s.log.Warn("session not given what policy says", "db_roles", latest.roles, "error", fault.Chain(err))
			again = time.After(offerAgain)
		}
	}
}

// take gives the session an offer. Where that takes object permissions away and
// fails, the session is ended.
func (s *session) take(ctx context.Context, o offer) error {
	now, _ := s.holds()
	if !sameObjects(now.objects, o.objects) {
		if err := s.switchBundle(ctx, o.objects); err != nil {
			if ctx.Err() == nil && takesObjects(now.objects, o.objects) {
				s.end(endNarrowedObjects())
			}
			return err
		}
		now.objects = o.objects
		s.log.Info("session given other object permissions", "bundle", roleOf(s.bundle))
	}
	if len(missing(o.roles, now.roles)) > 0 {
		widened, err := s.lease.Converge(ctx, o.roles)
		if err != nil {
			return err
		}
		if widened {
			now.roles = o.roles
			s.log.Info("session given more db roles", "db_roles", o.roles)
		}
	}
	s.hold(now)
	return nil
}
