package hub

import (
	"context"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/fault"
)

// planDatabase shows what provisioning would do for a session: the caller's own, or
// for the owner of the hub anybody's.
func (s *Server) planDatabase(ctx context.Context, who caller, in api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error) {
	var none api.PlanDatabaseResponse
	switch {
	case who.owner && in.User == "":
		return none, fault.New(fault.Invalid, "it is not said whose session is meant").WithHint("name a user")
	case !who.owner && in.User != "" && in.User != who.identity.User:
		return none, fault.New(fault.Denied, "plans for others are for the administrator of the hub").
			WithHint("run postern on the hub's machine, as the user that runs it")
	case !who.owner:
		in.User = who.identity.User
		if err := s.visible(who, in.Name); err != nil {
			return none, err
		}
	}
	return s.agents.Plan(ctx, in)
}

// visible refuses, as if there were no such database, who may not see it.
func (s *Server) visible(who caller, database string) error {
	user, err := s.callerUser(who)
	if err != nil {
		return err
	}
	r, err := s.registered(database)
	if err != nil {
		return err
	}
	if !s.bind(user).Overview(r.Database, r.Labels).Visible {
		return notFound(database)
	}
	return nil
}

// driftDatabase has the agent of a database compare its server with policy.
func (s *Server) driftDatabase(ctx context.Context, _ caller, in api.DriftDatabaseRequest) (api.DriftDatabaseResponse, error) {
	out := api.DriftDatabaseResponse{Deviations: []api.Deviation{}}
	if _, err := s.registered(in.Name); err != nil {
		return out, err
	}
	deviations, err := s.agents.Drift(ctx, in.Name)
	out.Deviations = append(out.Deviations, deviations...)
	return out, err
}
