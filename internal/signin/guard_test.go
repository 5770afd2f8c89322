package signin

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/fault"
)

// These tests speak with the guard itself: going through a thousand argon2
// hashes would take minutes.

type guarded struct {
	*guard
	t   *testing.T
	now time.Time
}

func newGuarded(t *testing.T) *guarded {
	g := &guarded{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	g.guard = newGuard(func() time.Time { return g.now }, slog.New(slog.DiscardHandler))
	return g
}

// try reports whether user may try at source; the attempt ends as told.
func (g *guarded) try(user, source string, end func(*attempt)) bool {
	g.t.Helper()
	a, err := g.begin(user, network(source))
	if err != nil {
		if fault.KindOf(err) != fault.Unauthenticated || fault.Of(err).Hint == "" {
			g.t.Errorf("refused with %v", err)
		}
		return false
	}
	end(a)
	return true
}

func (g *guarded) fails(user, source string) bool { return g.try(user, source, (*attempt).failed) }

func (g *guarded) want(what string, got, want bool) {
	g.t.Helper()
	if got != want {
		g.t.Errorf("%s: allowed is %v, want %v", what, got, want)
	}
}

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }

func TestGuardLocksOneUserAtOneSource(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"alice", "name that does not exist"} {
		g := newGuarded(t)
		for i := range maxPair {
			g.want(fmt.Sprint("attempt ", i), g.fails(user, "192.0.2.7:1000"), true)
		}
		g.want("one more", g.fails(user, "192.0.2.7:2000"), false)
		g.want("elsewhere", g.fails(user, "192.0.2.8"), true)
		g.want("another user", g.fails("bob", "192.0.2.7"), true)
		g.now = g.now.Add(window - time.Second)
		g.want("just before the end", g.fails(user, "192.0.2.7"), false)
		g.now = g.now.Add(time.Second)
		g.want("after the window", g.fails(user, "192.0.2.7"), true)
	}
}

func TestGuardForgetsFailuresAfterSuccess(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for range 10 {
		for range maxPair - 1 {
			g.want("failure", g.fails("alice", "192.0.2.7"), true)
		}
		g.want("success", g.try("alice", "192.0.2.7", (*attempt).succeeded), true)
	}
	for range 100 {
		g.want("trouble of ours", g.try("bob", "192.0.2.7", (*attempt).forget), true)
	}
}

func TestGuardCountsRunningAttempts(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for range maxPair {
		g.want("at once", g.try("alice", "192.0.2.7", func(*attempt) {}), true)
	}
	g.want("one more at once", g.fails("alice", "192.0.2.7"), false)
}

func TestGuardSlowsOneSourceWithManyUsers(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.want("a colleague signs in", g.try("alice", "192.0.2.7", (*attempt).succeeded), true)
	for i := range maxSource {
		g.want("spraying", g.fails(fmt.Sprint("user", i), "192.0.2.7"), true)
	}
	g.want("one more", g.fails("carol", "192.0.2.7"), false)
	g.want("the colleague, again", g.try("alice", "192.0.2.7", (*attempt).succeeded), true)
	g.want("carol, elsewhere", g.fails("carol", "192.0.2.8"), true)
}

func TestStrangersDoNotLockAPersonOut(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	const homeV6 = "[2001:db8:1:2::7]:50000"
	g.want("at home", g.try("alice", homeV6, (*attempt).succeeded), true)
	for i := range maxUser {
		g.want("attack", g.fails("alice", address(i)), true)
	}
	g.want("attack goes on", g.fails("alice", address(maxUser)), false)
	g.want("at home during the attack", g.try("alice", homeV6, (*attempt).succeeded), true)
	g.want("at home with another address", g.try("alice", "2001:db8:1:2:aaaa::1", (*attempt).succeeded), true)
	g.want("in a hotel during the attack", g.fails("alice", "198.51.100.1"), false)
	g.now = g.now.Add(window)
	g.want("in a hotel after the attack", g.fails("alice", "198.51.100.1"), true)
}

func TestGuardMemoryIsBounded(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for i := range maxTracked {
		g.fails(fmt.Sprint("user", i), address(i))
		if i%4 == 0 {
			g.try("known", address(i), (*attempt).succeeded)
		}
	}
	if len(g.tries) > maxTracked+3 || len(g.known) > maxTracked {
		t.Errorf("%d counts and %d places are kept", len(g.tries), len(g.known))
	}
	for i := range 2 * maxTracked {
		g.known[place{fmt.Sprint("user", i), ""}] = g.now
	}
	g.fails("alice", "192.0.2.7")
	if len(g.known) > maxTracked {
		t.Errorf("%d places are kept", len(g.known))
	}
	g.now = g.now.Add(2 * knownFor)
	for i := range maxTracked {
		g.tries[place{fmt.Sprint("user", i), ""}] = &tries{}
	}
	g.fails("alice", "192.0.2.7")
	if len(g.tries) > 10 {
		t.Errorf("%d counts are kept though their time is over", len(g.tries))
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "192.0.2.7:80": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "[::ffff:192.0.2.7]:80": "192.0.2.7",
		"2001:db8::1": "2001:db8::/64", "[2001:db8::1%eth0]:80": "2001:db8::/64", "fe80::1%eth0": "fe80::/64",
		"": "unknown", "@": "unknown", "localhost:80": "unknown", "192.0.2.7:http": "unknown",
	} {
		if got := network(source); got != want {
			t.Errorf("network(%q) = %q, want %q", source, got, want)
		}
	}
}
