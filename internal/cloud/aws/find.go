package aws

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// Search says which databases to look for: those of one region that a role can see.
type Search struct {
	Region string
	Role   Role
	Tags   access.Selector // of the labels that a database would get
}

// String names the search in logs and in what it finds.
func (s Search) String() string {
	if s.Role.ARN == "" {
		return s.Region
	}
	return s.Region + " as " + s.Role.ARN
}

// Found is what a search has found, sorted as Amazon lists it.
type Found struct {
	Databases []*resource.Database // valid, without regard to names that are there twice
	Skipped   []Skipped
}

// Skipped is a database that matches and is not registered.
type Skipped struct {
	Name string // in Amazon's cloud
	Why  string
}

// engines are those that speak PostgreSQL.
var engines = []string{"postgres", "aurora-postgresql"}

// Find lists RDS instances and the endpoints of Aurora clusters. Nothing is
// returned with an error, which is Unavailable and has a hint: a part of the answer
// would look as if the rest had been deleted.
func (c *Cloud) Find(ctx context.Context, s Search) (Found, error) {
	cfg, err := c.as(ctx, s.Region, s.Role)
	if err != nil {
		return Found{}, err
	}
	client := rds.NewFromConfig(cfg)
	name := "engine"
	filter := []types.Filter{{Name: &name, Values: engines}}
	var clusters []types.DBCluster
	for pages := rds.NewDescribeDBClustersPaginator(client, &rds.DescribeDBClustersInput{Filters: filter}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return Found{}, findFault(s, "rds:DescribeDBClusters", err)
		}
		clusters = append(clusters, page.DBClusters...)
	}
	var instances []types.DBInstance
	for pages := rds.NewDescribeDBInstancesPaginator(client, &rds.DescribeDBInstancesInput{Filters: filter}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return Found{}, findFault(s, "rds:DescribeDBInstances", err)
		}
		instances = append(instances, page.DBInstances...)
	}
	f := finder{search: s, instances: instances}
	for i := range instances {
		f.addInstance(&instances[i])
	}
	for i := range clusters {
		f.addCluster(&clusters[i])
	}
	return f.found, nil
}

func findFault(s Search, action string, err error) error {
	f := cloudFault(fmt.Sprintf("the databases in %s cannot be listed", s), err)
	if isDenied(err) {
		return f.WithHint("Allow the agent's AWS identity " + action + ".")
	}
	return f
}
