package agent

import (
	"fmt"

	"github.com/postern-db/postern/internal/pgwire"
)

// admitConnection counts a session against the max_connections of its user, and
// refuses the one that is too many. Sessions of other agents are not seen.
func (s *Server) admitConnection(sess *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := int64(0)
	for other := range s.sessions {
		if other.counted && other.identity.User == sess.identity.User {
			open++
		}
	}
	if limit := sess.decision.Limits.MaxConnections; limit > 0 && open >= limit {
		return &pgwire.Error{
			Severity: pgwire.SeverityFatal, Code: "53300", // too_many_connections
			Message: fmt.Sprintf("too many connections for user %q", sess.identity.User),
			Detail:  fmt.Sprintf("Your roles allow %d at once (max_connections).", limit),
			Hint:    "Close another session first.",
		}
	}
	sess.counted = true
	return nil
}
