package agent

import (
	"context"
	"slices"

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

// recheckSession ends a session that would be refused now, and one that would be
// given fewer db roles: after a SET ROLE, PostgreSQL would let it go on with a
// role that is no longer granted. s.mu is held.
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
	lost, gained := sess.compare(decision.DatabaseRoles)
	switch {
	case lost != nil:
		sess.end(endNarrowed(lost))
	case gained:
		sess.offer(decision.DatabaseRoles)
	}
}

// hold notes the db roles that the session was given. Resources that changed since
// the decision may have come too early for recheck to see them.
func (s *session) hold(roles []string) {
	s.mu.Lock()
	s.held = append([]string{}, roles...)
	s.mu.Unlock()
	if view, _ := s.agent.cfg.View(); view != s.view {
		s.agent.mu.Lock()
		defer s.agent.mu.Unlock()
		s.agent.recheckSession(s, view)
	}
}

// compare returns the db roles that the session holds and would not be given now,
// and whether it would be given more.
func (s *session) compare(roles []string) (lost []string, gained bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return nil, false // not given any yet
	}
	for _, held := range s.held {
		if !slices.Contains(roles, held) {
			lost = append(lost, held)
		}
	}
	return lost, slices.ContainsFunc(roles, func(r string) bool { return !slices.Contains(s.held, r) })
}

// offer hands the session more db roles. The latest offer counts.
func (s *session) offer(roles []string) {
	for {
		select {
		case s.offers <- roles:
			return
		case <-s.offers:
		}
	}
}

// takeOffers widens the account while the session runs.
func (s *session) takeOffers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case roles := <-s.offers:
			if err := s.widen(ctx, roles); err != nil && ctx.Err() == nil {
				s.log.Warn("session not given its new db roles", "db_roles", roles, "error", fault.Chain(err))
			}
		}
	}
}

func (s *session) widen(ctx context.Context, roles []string) error {
	widened, err := s.lease.Converge(ctx, roles)
	if err != nil || !widened {
		return err
	}
	s.hold(roles)
	s.log.Info("session given more db roles", "db_roles", roles)
	return nil
}
