package hub

import (
	"fmt"
	"slices"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/resource"
)

// warningsAbout returns what is surely not meant about resources just put: what
// the policy has to say, databases that nobody serves, and users who lack
// something.
func (s *Server) warningsAbout(results []api.PutResult) []string {
	view, _ := s.View()
	put := func(kind, name string) bool {
		return slices.ContainsFunc(results, func(r api.PutResult) bool { return r.Kind == kind && r.Name == name })
	}
	var texts []string
	for _, w := range view.Decisions().Warnings() {
		if put(w.Kind, w.Name) {
			texts = append(texts, w.String())
		}
	}
	for _, d := range view.Databases() {
		if !put(resource.KindDatabase, d.GetName()) {
			continue
		}
		texts = append(texts, s.warnUnserved(d)...)
	}
	for _, r := range results {
		if user, ok := view.User(r.Name); ok && r.Kind == resource.KindUser {
			texts = append(texts, view.warnUser(user)...)
		}
	}
	return texts
}

// warnSecondFactor is about what asks for a second factor at each session. Policy understands that,
// and no client can show one yet.
func warnSecondFactor(r resource.Resource) []string {
	const why = "require_session_mfa: no second factor can be asked for at a session, so every session"
	switch r := r.(type) {
	case *resource.Role:
		if r.Spec.Options.RequireSessionMFA.Required() {
			return []string{fmt.Sprintf("role/%s: options.%s that the role grants is refused", r.GetName(), why)}
		}
	case *resource.AuthPreference:
		if r.Spec.RequireSessionMFA.Required() {
			return []string{fmt.Sprintf("%s/%s: %s is refused", r.GetKind(), r.GetName(), why)}
		}
	}
	return nil
}

// warnUnserved reports why no agent serves a database, or would.
func (s *Server) warnUnserved(d *resource.Database) []string {
	why := s.agents.Unserved(d)
	if why == "" {
		return nil
	}
	return []string{fmt.Sprintf("db/%s: not served: %s", d.GetName(), why)}
}

// warnUser reports why a user cannot do what the record suggests.
func (v *View) warnUser(user *resource.User) []string {
	var texts []string
	for _, role := range user.Spec.Roles {
		if !v.policy.HasRole(role) {
			texts = append(texts, fmt.Sprintf("user/%s: the role %s does not exist; it gives nothing", user.GetName(), role))
		}
	}
	if len(user.GetName()) > access.MaxDatabaseUserName {
		texts = append(texts, fmt.Sprintf("user/%s: the name is longer than %d bytes, too long for a database user of the same name; sessions that need one are refused",
			user.GetName(), access.MaxDatabaseUserName))
	}
	return texts
}
