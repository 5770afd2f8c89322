package aws_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/rdstest"
	"github.com/postern-db/postern/internal/resource"
)

const (
	domain  = ".abc123.eu-west-1.rds.amazonaws.com"
	account = "-eu-west-1-123456789012"
)

func selector(t *testing.T, labels resource.LabelSelector) access.Selector {
	t.Helper()
	s, err := access.NewSelector(labels)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func everything(t *testing.T) access.Selector {
	return selector(t, resource.LabelSelector{"*": {"*"}})
}

// instance returns an instance with the host name that Amazon would give it.
func instance(id string, tags map[string]string) rdstest.Instance {
	return rdstest.Instance{ID: id, Region: "eu-west-1", Host: id + domain, Port: 5432, Tags: tags, VPC: "vpc-1"}
}

// summary is what a test looks at of a database.
type summary struct {
	URI, Admin, Default, Writer string
}

func summaries(t *testing.T, found []*resource.Database) map[string]summary {
	t.Helper()
	all := map[string]summary{}
	for _, d := range found {
		writer, err := d.Writer()
		if err != nil || d.Type() != resource.TypeRDS || d.AuthMethod() != resource.AuthIAM {
			t.Errorf("%s: type %s, auth %s, %v", d.GetName(), d.Type(), d.AuthMethod(), err)
		}
		s := summary{URI: d.Spec.URI}
		s.Admin, s.Default = d.AdminUser()
		if len(writer.Hosts) > 0 {
			s.Writer = writer.Hosts[0].Address()
		}
		all[d.GetName()] = s
	}
	return all
}

func TestFind(t *testing.T) {
	t.Parallel()
	fake := rdstest.Start(t)
	fake.Put(instance("orders", map[string]string{"env": "prod", "teleport.dev/db-admin": "teleport-admin", "teleport.dev/db-admin-default-database": "postgres", "has blanks": "x", "region": "moon"}))
	replica := instance("orders-copy", nil)
	replica.ReplicaOf = "orders"
	fake.Put(replica)
	fake.Put(instance("named", map[string]string{"TeleportDatabaseName": "nice"}))
	fake.Put(instance("shop-eu-west-1", nil))
	old := instance("old-engine", nil)
	old.Engine = "mysql"
	fake.Put(old)
	elsewhere := instance("elsewhere", nil)
	elsewhere.Region = "us-east-1"
	fake.Put(elsewhere)
	foreign := instance("foreign", nil)
	foreign.Account = rdstest.Other
	fake.Put(foreign)
	for id, change := range map[string]func(*rdstest.Instance){
		"unborn":    func(i *rdstest.Instance) { i.Status = "creating" },
		"passwords": func(i *rdstest.Instance) { i.NoIAM = true },
		"odd":       func(i *rdstest.Instance) { i.Tags = map[string]string{"TeleportDatabaseName": "no good!"} },
		"saving":    func(i *rdstest.Instance) { i.Status = "backing-up" },
	} {
		i := instance(id, nil)
		change(&i)
		fake.Put(i)
	}
	member := instance("shop-1", nil)
	member.Cluster, member.Engine, member.VPC = "shop", "aurora-postgresql", "vpc-2"
	fake.Put(member)
	fake.PutCluster(rdstest.Cluster{
		ID: "shop", Region: "eu-west-1", Writer: "shop.cluster-abc123.eu-west-1.rds.amazonaws.com",
		Reader: "shop.cluster-ro-abc123.eu-west-1.rds.amazonaws.com", Port: 5433, Members: []string{"shop-1", "shop-2"},
		Custom: []string{"fast.cluster-custom-abc123.eu-west-1.rds.amazonaws.com"}, Tags: map[string]string{"teleport.dev/db-admin": "boss"},
	})
	fake.PutCluster(rdstest.Cluster{
		ID: "alone", Region: "eu-west-1", Writer: "alone.cluster-abc123.eu-west-1.rds.amazonaws.com",
		Reader: "alone.cluster-ro-abc123.eu-west-1.rds.amazonaws.com", Port: 5432, Members: []string{"alone-1"},
	})

	found, err := aws.New(fake.Config()).Find(t.Context(), aws.Search{Region: "eu-west-1", Tags: everything(t)})
	if err != nil {
		t.Fatal(err)
	}
	const cluster = "abc123.eu-west-1.rds.amazonaws.com:5433"
	want := map[string]summary{
		"orders-rds" + account:                  {URI: "orders" + domain + ":5432", Admin: "teleport-admin", Default: "postgres"},
		"orders-copy-rds" + account:             {URI: "orders-copy" + domain + ":5432", Writer: "orders" + domain + ":5432"},
		"nice":                                  {URI: "named" + domain + ":5432"},
		"shop-eu-west-1-rds-123456789012":       {URI: "shop-eu-west-1" + domain + ":5432"},
		"saving-rds" + account:                  {URI: "saving" + domain + ":5432"},
		"shop-rds-aurora" + account:             {URI: "shop.cluster-" + cluster, Admin: "boss"},
		"shop-reader-rds-aurora" + account:      {URI: "shop.cluster-ro-" + cluster, Admin: "boss", Writer: "shop.cluster-" + cluster},
		"shop-custom-fast-rds-aurora" + account: {URI: "fast.cluster-custom-" + cluster, Admin: "boss", Writer: "shop.cluster-" + cluster},
		"alone-rds-aurora" + account:            {URI: "alone.cluster-abc123.eu-west-1.rds.amazonaws.com:5432"},
	}
	if diff := cmp.Diff(want, summaries(t, found.Databases)); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	var skipped []string
	for _, s := range found.Skipped {
		skipped = append(skipped, s.Name)
	}
	slices.Sort(skipped)
	if diff := cmp.Diff([]string{"odd", "passwords", "unborn"}, skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	labels := map[string]string{
		"env": "prod", "teleport.dev/db-admin": "teleport-admin", "teleport.dev/db-admin-default-database": "postgres",
		"account-id": "123456789012", "region": "eu-west-1", "engine": "postgres", "engine-version": "16.4", "endpoint-type": "instance",
		"vpc-id": "vpc-1", "status": "available", "teleport.dev/origin": "cloud", "teleport.internal/discovered-name": "orders",
	}
	for _, d := range found.Databases {
		switch d.GetName() {
		case "orders-rds" + account:
			if diff := cmp.Diff(labels, d.Labels()); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		case "shop-reader-rds-aurora" + account:
			if l := d.Labels(); l["endpoint-type"] != "reader" || l["vpc-id"] != "vpc-2" || l["teleport.internal/discovered-name"] != "shop-reader" {
				t.Errorf("labels of the reader: %v", l)
			}
		}
	}
	if calls := fake.Calls("DescribeDBInstances"); calls < 4 {
		t.Errorf("%d pages were asked for, there are more", calls)
	}
}

func TestFindByTags(t *testing.T) {
	t.Parallel()
	fake := rdstest.Start(t)
	fake.Put(instance("prod", map[string]string{"env": "prod"}))
	fake.Put(instance("dev", map[string]string{"env": "dev"}))
	found, err := aws.New(fake.Config()).Find(t.Context(), aws.Search{Region: "eu-west-1", Tags: selector(t, resource.LabelSelector{"env": {"pr*"}})})
	if err != nil || len(found.Databases) != 1 || found.Databases[0].GetName() != "prod-rds"+account {
		t.Errorf("got %v, %v", found.Databases, err)
	}
}

func TestFindFaults(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, action, code, hint string }{
		{"throttled", "DescribeDBInstances", "Throttling", "limits how often"},
		{"instances not allowed", "DescribeDBInstances", "AccessDenied", "rds:DescribeDBInstances"},
		{"clusters not allowed", "DescribeDBClusters", "AccessDenied", "rds:DescribeDBClusters"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake := rdstest.Start(t)
			fake.Put(instance("orders", nil))
			fake.Fail(test.action, "", test.code, -1)
			found, err := aws.New(fake.Config()).Find(t.Context(), aws.Search{Region: "eu-west-1", Tags: everything(t)})
			if f := fault.Of(err); f.Kind != fault.Unavailable || !strings.Contains(f.Hint, test.hint) || !strings.Contains(f.Text, "eu-west-1") || found.Databases != nil {
				t.Errorf("got %v, hint %q, %d databases", err, f.Hint, len(found.Databases))
			}
		})
	}
}

// TestDiscoveryFollows: changes and removals are followed, and a search that fails,
// on whatever page, takes nothing away.
func TestDiscoveryFollows(t *testing.T) {
	t.Parallel()
	fake := rdstest.Start(t)
	for _, id := range []string{"a", "b", "c"} { // more than one page
		fake.Put(instance(id, nil))
	}
	east := instance("east", nil)
	east.Region = "us-east-1"
	fake.Put(east)
	cfg := fake.Config()
	cfg.DiscoveryInterval = 20 * time.Millisecond
	all := everything(t)
	d := aws.New(cfg).Discovery([]aws.Search{{Region: "eu-west-1", Tags: all}, {Region: "us-east-1", Tags: all}}, 0, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { defer close(done); d.Serve(ctx) }()
	defer func() { stop(); <-done }()

	const eastName = "east-rds-us-east-1-123456789012"
	await := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		eventually(t, func() bool { return slices.Equal(names(d), want) }, func() string { return cmp.Diff(want, names(d)) })
	}
	await("a-rds"+account, "b-rds"+account, "c-rds"+account, eastName)

	fake.Fail("DescribeDBInstances", "eu-west-1", "AccessDenied", -1)
	fake.Remove("a")
	fake.Remove("east")
	await("a-rds"+account, "b-rds"+account, "c-rds"+account) // the other region goes on
	before := fake.Calls("DescribeDBInstances")
	eventually(t, func() bool { return fake.Calls("DescribeDBInstances") > before+4 }, func() string { return "not searched again" })
	await("a-rds"+account, "b-rds"+account, "c-rds"+account)

	fake.Heal()
	await("b-rds"+account, "c-rds"+account)
	changed := instance("b", map[string]string{"teleport.dev/db-admin": "boss"})
	fake.Put(changed)
	eventually(t, func() bool {
		found, _ := d.Databases()
		admin, _ := found[0].AdminUser()
		other, _ := found[1].AdminUser()
		return admin == "boss" || other == "boss"
	}, func() string { return "the tag is not seen" })
	// A later page that fails takes nothing away either.
	fake.Fail("DescribeDBClusters", "", "AccessDenied", -1)
	fake.Remove("b")
	before = fake.Calls("DescribeDBClusters")
	eventually(t, func() bool { return fake.Calls("DescribeDBClusters") > before+4 }, func() string { return "not searched again" })
	await("b-rds"+account, "c-rds"+account)
}

func names(d *aws.Discovery) []string {
	found, _ := d.Databases()
	var all []string
	for _, r := range found {
		all = append(all, r.GetName())
	}
	slices.Sort(all)
	return all
}
