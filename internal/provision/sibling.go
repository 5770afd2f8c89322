package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// siblingHash is how much of the hash of a set of roles is in a sibling's name, in
// bytes before they are written in hex.
const siblingHash = 4

// siblingName is what the name of a sibling looks like. No person may have such a
// name: it could be that of somebody else's sibling.
var siblingName = regexp.MustCompile(`#[0-9a-f]{8}$`)

// sibling returns the wish for an account beside the person's own, for a session
// with other roles than the sessions that run. Equal roles share a sibling; it is
// dropped when its last session ends.
func sibling(w Want) Want {
	sum := sha256.Sum256([]byte(w.User + "\x00" + setOf(w.Roles, w.Replication)))
	w.User = withSuffix(w.User, "#"+hex.EncodeToString(sum[:siblingHash]))
	w.Mode, w.Chosen = max(w.Mode, Drop), false // the name stands for the roles
	return w
}

// withSuffix returns the name with a suffix, cut between characters to make room for it.
func withSuffix(name, suffix string) string {
	for len(name)+len(suffix) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name + suffix
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
// here uses the account with other roles. Else it returns their backends.
func (a *accounts) claim(w Want) (e *entry, inTheWay []uint32) {
	e = a.use(w.User)
	a.mu.Lock()
	defer a.mu.Unlock()
	set := setOf(w.Roles, w.Replication)
	if e.leases > 0 && e.set != set {
		e.users-- // somebody else's lease keeps the entry
		for _, b := range e.live {
			inTheWay = append(inTheWay, b.pid)
		}
		return nil, inTheWay
	}
	e.leases++
	if w.Chosen && !w.Alone {
		e.chosen++
	}
	e.set = set
	return e, nil
}

// claim makes a lease on the account of a session: the person's own, or a sibling
// where sessions here use that with other roles.
func (s *Server) claim(w Want) (*Lease, error) {
	want, err := s.target(w)
	if err != nil {
		return nil, err
	}
	l := &Lease{s: s, wanted: w, want: want, mode: w.Mode, database: s.database(w.DatabaseName), unseen: true}
	e, inTheWay := s.accounts.claim(w)
	if e == nil {
		return l, l.claimSibling(inTheWay)
	}
	l.entry = e
	return l, nil
}

// claimSibling puts the lease on a sibling, because of sessions that are in the
// way on the person's own account.
func (l *Lease) claimSibling(inTheWay []uint32) error {
	if l.wanted.Alone || l.sibling {
		return conflict(l.wanted.User, inTheWay)
	}
	next := sibling(l.wanted)
	want, err := l.s.target(next)
	if err != nil {
		return err
	}
	want.sibling = true
	e, inTheWay := l.s.accounts.claim(next)
	if e == nil {
		return conflict(next.User, inTheWay)
	}
	l.entry, l.want, l.mode, l.sibling = e, want, next.Mode, true
	return nil
}

// busy returns the backends of the sessions here that use the account with other
// roles, and whether there are such sessions: what claim would find.
func (a *accounts) busy(w Want) (inTheWay []uint32, busy bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.byUser[w.User]
	if e == nil || e.leases == 0 || e.set == setOf(w.Roles, w.Replication) {
		return nil, false
	}
	for _, b := range e.live {
		inTheWay = append(inTheWay, b.pid)
	}
	return inTheWay, true
}

// moveAside gives the lease's account to those who use it with other roles.
func (l *Lease) moveAside(inTheWay []uint32) error {
	own, chosen := l.entry, l.want.chosen
	if err := l.claimSibling(inTheWay); err != nil {
		return err
	}
	l.s.accounts.end(own, l.pids)
	l.pids = nil
	l.s.accounts.unclaim(own, chosen)
	l.s.accounts.leave(own)
	l.s.sweepSoon() // they may be gone by now, and nobody here releases the account
	return nil
}
