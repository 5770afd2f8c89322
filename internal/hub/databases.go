package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/resource"
)

// listDatabases lists what the caller's roles make visible, decided on the
// resources as they are now.
func (s *Server) listDatabases(_ context.Context, who caller, in api.ListDatabasesRequest) (api.ListDatabasesResponse, error) {
	out := api.ListDatabasesResponse{Databases: []api.Database{}}
	user, err := s.callerUser(who)
	if err != nil {
		return out, err
	}
	var query *access.Expression
	if in.Query != "" {
		if query, err = access.ParseExpression(in.Query); err != nil {
			return out, err
		}
	}
	bound := s.bind(user)
	for _, r := range s.agents.Registered() {
		if !selected(r, in) {
			continue
		}
		if query != nil {
			if match, err := query.Match(r.Labels, user.GetName(), user.Spec.Traits); err != nil || !match {
				continue // not evaluable is not a match, as in roles
			}
		}
		if o := bound.Overview(r.Database, r.Labels); o.Visible {
			view, _ := s.View()
			d := describe(r, o)
			d.Frozen = view.Frozen(d.Name)
			out.Databases = append(out.Databases, d)
		}
	}
	return out, nil
}

// servedDatabases lists every database that an agent serves, as a resource that
// carries the labels it has now.
func (s *Server) servedDatabases(context.Context, caller, api.Empty) (api.ServedDatabasesResponse, error) {
	out := api.ServedDatabasesResponse{Databases: []api.Resource{}}
	for _, r := range s.agents.Registered() {
		d := *r.Database
		d.Metadata.Labels, d.Spec.DynamicLabels = r.Labels, nil
		body, err := json.Marshal(&d)
		if err != nil {
			return out, fmt.Errorf("encode database %s: %w", d.GetName(), err)
		}
		out.Databases = append(out.Databases, api.Resource{Kind: resource.KindDatabase, Name: d.GetName(), Body: body})
	}
	return out, nil
}

// callerUser returns the user record of the caller, as it is now.
func (s *Server) callerUser(who caller) (*resource.User, error) {
	view, _ := s.View()
	user, ok := view.User(who.identity.User)
	if !ok {
		return nil, fault.Newf(fault.Denied, "user %q does not exist any more", who.identity.User)
	}
	return user, nil
}

// bind applies the current policy to a user.
func (s *Server) bind(user *resource.User) *access.Bound {
	view, _ := s.View()
	return view.Decisions().Bind(access.Request{User: user.GetName(), Roles: user.Spec.Roles, Traits: user.Spec.Traits})
}

func selected(r Registered, in api.ListDatabasesRequest) bool {
	if in.Name != "" && in.Name != r.Database.GetName() {
		return false
	}
	for k, v := range in.Labels {
		if have, ok := r.Labels[k]; !ok || have != v {
			return false
		}
	}
	return !slices.ContainsFunc(in.Search, func(word string) bool { return !mentions(r, strings.ToLower(word)) })
}

func mentions(r Registered, word string) bool {
	texts := []string{r.Database.GetName(), r.Database.GetMetadata().Description}
	for k, v := range r.Labels {
		texts = append(texts, k, v)
	}
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(t), word) })
}

func describe(r Registered, o access.Overview) api.Database {
	return api.Database{
		Name: r.Database.GetName(), Description: r.Database.GetMetadata().Description,
		Protocol: r.Database.Spec.Protocol, Type: string(r.Database.Type()), URI: r.Database.Spec.URI, Labels: r.Labels,
		Mode: o.Mode.String(), Provisioning: o.Mode.Enabled(),
		Users: api.Allowance{Allowed: o.AllowedUsers, Denied: o.DeniedUsers},
		Names: api.Allowance{Allowed: o.AllowedNames, Denied: o.DeniedNames},
		Roles: o.DatabaseRoles,
	}
}

// issueDatabaseCertificate binds a certificate to one database. It lives as long
// as the login at most. Whether the session is allowed is decided by the agent,
// on every connection; refusing here what cannot succeed only saves time.
func (s *Server) issueDatabaseCertificate(ctx context.Context, who caller, in api.DatabaseCertificateRequest) (api.DatabaseCertificateResponse, error) {
	var none api.DatabaseCertificateResponse
	pub, err := ca.ParseCSR([]byte(in.CSR))
	if err != nil {
		return none, err
	}
	user, err := s.callerUser(who)
	if err != nil {
		return none, err
	}
	r, err := s.registered(in.Route.Database)
	if err != nil {
		return none, err
	}
	o := s.bind(user).Overview(r.Database, r.Labels)
	if !o.Visible {
		return none, notFound(in.Route.Database)
	}
	route, name := completed(in.Route, user, o)
	id := identity.Identity{
		User: user.GetName(), Cluster: s.cfg.Cluster, Roles: user.Spec.Roles, Traits: user.Spec.Traits,
		Route: route, Expires: who.identity.Expires, LoginExpires: who.identity.Expires,
	}
	cert, err := s.issueUser(ctx, who, id, pub)
	if err != nil {
		return none, err
	}
	return api.DatabaseCertificateResponse{
		Certificate: string(ca.EncodeCertificates(cert)), Expires: cert.NotAfter,
		ServerName:   api.DatabaseServerName(r.Database.GetName(), s.cfg.Cluster),
		DatabaseUser: route.DatabaseUser, DatabaseName: name,
	}, nil
}

// completed fills in what the user left open where there is only one answer: the
// own name where provisioning is on, else the one allowed user or name.
func completed(route identity.Route, user *resource.User, o access.Overview) (identity.Route, string) {
	if route.DatabaseUser == "" {
		if o.Mode.Enabled() {
			route.DatabaseUser = user.GetName()
		} else {
			route.DatabaseUser = only(o.AllowedUsers)
		}
	}
	name := route.DatabaseName
	if name == "" {
		name = only(o.AllowedNames)
	}
	return route, name
}

func only(names []string) string {
	if len(names) == 1 && names[0] != "*" {
		return names[0]
	}
	return ""
}

func (s *Server) registered(name string) (Registered, error) {
	for _, r := range s.agents.Registered() {
		if r.Database.GetName() == name {
			return r, nil
		}
	}
	return Registered{}, notFound(name)
}

// notFound is the answer for databases that do not exist and for those that the
// caller's roles do not show: who may not see one learns nothing.
func notFound(name string) error {
	return fault.Newf(fault.NotFound, "database %q not found", name).WithHint("list the databases you may reach with: postern db ls")
}
