package chaos

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// person is a user, and what policy has said about the user so far.
type person struct {
	name, mode string

	mu           sync.Mutex // guards the rest
	versions     []*version
	certificates map[string]tls.Certificate // by route
}

// policy is what a person may do: both lists are in order.
type policy struct{ roles, privileges []string }

// version is a policy in force: from some moment on with each gateway, until some
// moment after the next one begins.
type version struct {
	policy
	begun int // gateways that may know it
	done  int // gateways that know it
}

func (p policy) String() string { return fmt.Sprintf("%v %v", p.roles, p.privileges) }

func newPolicy(r *rand.Rand) policy { return policy{subset(r, dbRoles), subset(r, privileges)} }

func subset(r *rand.Rand, of []string) []string {
	some := []string{}
	for _, s := range of {
		if r.IntN(2) == 0 {
			some = append(some, s)
		}
	}
	return some
}

func within(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// yaml is the role that carries the policy.
func (p *person) yaml(now policy) string {
	permissions := ""
	if len(now.privileges) > 0 {
		permissions = "\n    db_permissions: [{match: {object_kind: table, schema: public}, permissions: [" + strings.Join(now.privileges, ", ") + "]}]"
	}
	return "kind: role\nversion: v7\nmetadata: {name: " + p.name + "}\nspec:\n  options: {create_db_user_mode: " + p.mode + "}\n  allow:\n" +
		"    db_labels: {\"*\": \"*\"}\n    db_names: [\"*\"]\n    db_roles: [" + strings.Join(now.roles, ", ") + "]" + permissions + "\n"
}

// edit changes the policy of a person, with one gateway after the other.
func (w *world) edit(p *person, next policy) {
	w.t.Helper()
	v := &version{policy: next}
	p.mu.Lock()
	p.versions = append(p.versions, v)
	p.mu.Unlock()
	for _, g := range w.gateways {
		p.mu.Lock()
		v.begun++
		p.mu.Unlock()
		g.env.Apply(w.t, p.yaml(next))
		p.mu.Lock()
		v.done++
		p.mu.Unlock()
	}
}

// mark is the number of the oldest version that gateway g may still go by.
func (p *person) mark(g int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := 0
	for i, v := range p.versions {
		if v.done > g {
			oldest = i
		}
	}
	return oldest
}

// since returns the versions that somebody may go by, from a mark on.
func (p *person) since(mark int) []policy {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []policy
	for _, v := range p.versions[mark:] {
		if v.begun > 0 {
			all = append(all, v.policy)
		}
	}
	return all
}

// settled returns the policy that every gateway knows, if there is no newer one.
func (p *person) settled(gateways int) (policy, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.versions[len(p.versions)-1]
	return last.policy, last.done == gateways
}

// some reports whether one of the policies fits.
func some(of []policy, fits func(policy) bool) bool { return slices.ContainsFunc(of, fits) }
