package agent

import (
	"fmt"

	"github.com/postern-db/postern/internal/pgwire"
)

// admitConnection counts a session against the max_connections of its user, and
// refuses the one that is too many. Sessions of other agents are not seen. From
// then on recheck looks after the session; a decision that is outdated already has
// to be made again, which is not an error.
func (s *Server) admitConnection(sess *session) (admitted bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if view, _ := s.cfg.View(); view != sess.view {
		return false, nil
	}
	open := int64(0)
	for other := range s.sessions {
		if other.admitted && other.identity.User == sess.identity.User {
			open++
		}
	}
	if limit := sess.decision.Limits.MaxConnections; limit > 0 && open >= limit {
		return false, &pgwire.Error{
			Severity: pgwire.SeverityFatal, Code: "53300", // too_many_connections
			Message: fmt.Sprintf("too many connections for user %q", sess.identity.User),
			Detail:  fmt.Sprintf("Your roles allow %d at once (max_connections).", limit),
			Hint:    "Close another session first.",
		}
	}
	sess.admitted = true
	sess.setLimits(sess.decision.Limits)
	return true, nil
}
