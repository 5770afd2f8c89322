package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// doctorDatabase has the agent of a database examine its server, against
// everything that the current policy can ask of it.
func (s *Server) doctorDatabase(ctx context.Context, _ caller, in api.DoctorDatabaseRequest) (api.DoctorDatabaseResponse, error) {
	out := api.DoctorDatabaseResponse{Findings: []api.Finding{}}
	view, _ := s.View()
	r, err := s.registered(in.Name)
	if err != nil {
		return out, s.whyUnserved(view, in.Name, err)
	}
	findings, err := s.agents.Doctor(ctx, in.Name, view.handouts(r))
	out.Findings = append(out.Findings, findings...)
	return out, err
}

// whyUnserved tells the hub's owner why a database that is registered is not
// served; err is for one that is not registered.
func (s *Server) whyUnserved(view *View, name string, err error) error {
	for _, d := range view.Databases() {
		if why := s.agents.Unserved(d); d.GetName() == name && why != "" {
			return fault.Newf(fault.NotFound, "database %q is registered, but not served: %s", name, why)
		}
	}
	return err
}

// handouts returns what the users with automatic accounts can be given on a
// database. Those who get the same are together.
func (v *View) handouts(r Registered) []api.Handout {
	same := map[string]int{} // position in all
	var all []api.Handout
	for _, name := range slices.Sorted(maps.Keys(v.users)) {
		h, ok := v.handout(v.users[name], r)
		if !ok {
			continue
		}
		key := fmt.Sprintf("%#v", h)
		i, seen := same[key]
		if !seen {
			i = len(all)
			same[key] = i
			all = append(all, h)
		}
		all[i].Users = append(all[i].Users, name)
	}
	return all
}

// handout returns what one user can be given, without the user. It reports false
// for who may not use the database or needs no account there.
func (v *View) handout(user *resource.User, r Registered) (api.Handout, bool) {
	bound := v.policy.Bind(access.Request{User: user.GetName(), Roles: user.Spec.Roles, Traits: user.Spec.Traits})
	o := bound.Overview(r.Database, r.Labels)
	if !o.Visible || !o.Mode.Enabled() || len(o.AllowedNames) == 0 {
		return api.Handout{}, false
	}
	h := api.Handout{
		Roles: o.DatabaseRoles, Databases: o.AllowedNames, Except: o.DeniedNames,
		Reassign: o.Mode == resource.ModeBestEffortReassignAndDrop,
	}
	d := bound.Decide(access.Request{
		Database: r.Database, Labels: r.Labels, DatabaseUser: user.GetName(), DatabaseName: o.AnyName(), MFAVerified: true,
	})
	h.Permissions, h.WarnMissing = d.Permissions, d.Limits.OnMissingGrant == resource.MissingGrantWarn
	h.Replication = d.Limits.AllowReplication
	return h, true
}

// previewDiscovery asks the agents' side what discovery would register.
func (s *Server) previewDiscovery(ctx context.Context, _ caller, _ api.Empty) (api.PreviewDiscoveryResponse, error) {
	searches, err := s.agents.Discover(ctx)
	return api.PreviewDiscoveryResponse{Searches: searches}, err
}
