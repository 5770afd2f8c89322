package agent

import (
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
	if sess.database == nil {
		return // not authorized yet: it will be, on these resources or newer ones
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
	if lost := sess.lost(decision.DatabaseRoles); len(lost) > 0 {
		sess.end(endNarrowed(lost))
	}
}

// hold notes the db roles that the session was given. Resources that changed since
// the decision may have come too early for recheck to see them.
func (s *session) hold(roles []string) {
	s.mu.Lock()
	s.held = roles
	s.mu.Unlock()
	if view, _ := s.agent.cfg.View(); view != s.view {
		s.agent.mu.Lock()
		defer s.agent.mu.Unlock()
		s.agent.recheckSession(s, view)
	}
}

// lost returns the db roles that the session holds and would not be given now.
func (s *session) lost(roles []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []string
	for _, held := range s.held {
		if !slices.Contains(roles, held) {
			lost = append(lost, held)
		}
	}
	return lost
}
