package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postern-db/postern/internal/fault"
)

// siblingHash is how much of the hash of a set of roles is in a sibling's name, in
// bytes before they are written in hex.
const siblingHash = 4

// sibling returns the wish for an account beside the person's own, for a session
// with other roles than the sessions that run. Equal roles share a sibling; it is
// dropped when its last session ends.
func sibling(w Want) Want {
	sum := sha256.Sum256([]byte(w.User + "\x00" + setOf(w.Roles, w.Replication)))
	suffix := "#" + hex.EncodeToString(sum[:siblingHash])
	name := w.User
	for len(name)+len(suffix) > maxName { // cut between characters
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	w.User, w.Mode = name+suffix, Drop
	return w
}

// setOf identifies what an account holds: its roles, and whether it may replicate.
func setOf(roles []string, replication bool) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(roles)))
	if replication {
		sorted = append(sorted, "", replicationWord) // no role has an empty name
	}
	return strings.Join(sorted, "\x00")
}

// claim returns the entry of an account with one more lease on it, if no session
// here uses the account with other roles.
func (a *accounts) claim(w Want) (e *entry, inTheWay []uint32) {
	e = a.use(w.User)
	a.mu.Lock()
	defer a.mu.Unlock()
	set := setOf(w.Roles, w.Replication)
	if e.leases > 0 && e.set != set {
		e.users-- // somebody else's lease keeps the entry
		return nil, slices.Clone(e.live)
	}
	e.leases++
	e.set = set
	return e, nil
}

// claim finds the account for a session: the person's own, or a sibling where
// that is in use with other roles.
func (s *Server) claim(w Want) (*entry, Want, error) {
	e, inTheWay := s.accounts.claim(w)
	if e != nil {
		return e, w, nil
	}
	if next := sibling(w); !w.Alone {
		if e, _ = s.accounts.claim(next); e != nil { // else somebody has that very name
			return e, next, nil
		}
	}
	return nil, w, fault.Newf(fault.Conflict, "roles for user %q have changed or differ from those of sessions that are open", w.User).
		WithDetail(fmt.Sprintf("Sessions in the way (process ids): %s.", strings.Trim(fmt.Sprint(inTheWay), "[]"))).
		WithHint("Quit all active connections and try again, or ask for the same db roles.")
}
