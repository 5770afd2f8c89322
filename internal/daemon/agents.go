package daemon

import (
	"context"

	"github.com/postern-db/postern/internal/agent"
	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/hub"
	"github.com/postern-db/postern/internal/resource"
)

// agents is what the hub asks of the agent in the same process, if there is one.
type agents struct {
	agent       *agent.Server
	discoveries []*aws.Discovery
}

func (a agents) Registered() []hub.Registered {
	if a.agent == nil {
		return nil
	}
	var all []hub.Registered
	for _, d := range a.agent.Databases() {
		all = append(all, hub.Registered{Database: d.Database, Labels: d.Labels})
	}
	return all
}

func (a agents) Health() []api.DatabaseHealth {
	if a.agent == nil {
		return nil
	}
	return a.agent.Health()
}

func (a agents) Sessions() int {
	if a.agent == nil {
		return 0
	}
	return a.agent.Sessions()
}

func (a agents) Unserved(r *resource.Database) string {
	if a.agent == nil {
		return "db_service is not enabled in the configuration file"
	}
	return a.agent.Unserved(r)
}

func (a agents) Doctor(ctx context.Context, database string, handouts []api.Handout) ([]api.Finding, error) {
	if a.agent == nil {
		return nil, notServed(database)
	}
	return a.agent.Doctor(ctx, database, handouts)
}

func (a agents) Drift(ctx context.Context, database string) ([]api.Deviation, error) {
	if a.agent == nil {
		return nil, notServed(database)
	}
	return a.agent.Drift(ctx, database)
}

func (a agents) Plan(ctx context.Context, q api.PlanDatabaseRequest) (api.PlanDatabaseResponse, error) {
	if a.agent == nil {
		return api.PlanDatabaseResponse{}, notServed(q.Name)
	}
	return a.agent.Plan(ctx, q)
}

// notServed is the answer where no agent runs, and so no database is registered.
func notServed(database string) error {
	return fault.Newf(fault.NotFound, "database %q is not served here", database)
}

// Discover returns what discovery would register now.
func (a agents) Discover(ctx context.Context) ([]api.DiscoverySearch, error) {
	all := []api.DiscoverySearch{}
	for _, d := range a.discoveries {
		results, err := d.Preview(ctx)
		if err != nil {
			return nil, fault.New(fault.Unavailable, "Amazon does not answer in time").WithCause(err)
		}
		for _, r := range results {
			all = append(all, describeSearch(r))
		}
	}
	return all, nil
}

func describeSearch(r aws.Result) api.DiscoverySearch {
	s := api.DiscoverySearch{Search: r.Search.String(), Databases: []api.DiscoveredDatabase{}, Skipped: []api.SkippedDatabase{}}
	if r.Err != nil {
		f := fault.Of(r.Err)
		s.Error, s.Detail, s.Hint = f.Text, f.Detail, f.Hint
	}
	for _, db := range r.Found.Databases {
		admin, _ := db.AdminUser()
		found := api.DiscoveredDatabase{Name: db.GetName(), URI: db.Spec.URI, AdminUser: admin, Labels: db.Labels()}
		if writer, err := db.Writer(); err == nil && len(writer.Hosts) > 0 {
			found.Writer = writer.Hosts[0].Address()
		}
		s.Databases = append(s.Databases, found)
	}
	for _, skipped := range r.Found.Skipped {
		s.Skipped = append(s.Skipped, api.SkippedDatabase{Name: skipped.Name, Why: skipped.Why})
	}
	return s
}
