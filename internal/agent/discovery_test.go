package agent_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/rdstest"
	"github.com/postern-db/postern/internal/resource"
	"github.com/postern-db/postern/internal/testenv"
)

// startDiscovering starts a gateway before a fake cloud without databases.
func startDiscovering(t *testing.T, service string) *rds {
	t.Helper()
	fake := rdstest.Start(t)
	cfg := fake.Config()
	cfg.DiscoveryInterval = 50 * time.Millisecond
	env := testenv.Start(t, testenv.Options{HBA: rdstest.HBA, Service: service, AWS: cfg})
	env.Server.Exec(t, "CREATE ROLE rds_iam", `GRANT rds_iam TO "teleport-admin" WITH ADMIN OPTION`)
	return &rds{Env: env, fake: fake, front: fake.Front(t, env.Server, "eu-west-1")}
}

func (r *rds) orders(tags map[string]string) rdstest.Instance {
	return rdstest.Instance{ID: "orders", Region: "eu-west-1", Host: r.front.Host, Port: r.front.Port, Tags: tags}
}

const ordersName = "orders-rds-eu-west-1-123456789012"

// TestDiscoveredSeedFlow: an instance and its read replica are found, used, lose
// their admin user, and go.
func TestDiscoveredSeedFlow(t *testing.T) {
	t.Parallel()
	r := startDiscovering(t, `db_service:
  aws:
  - types: [rds]
    regions: [eu-west-1]
    tags: {env: prod}
`)
	tags := map[string]string{"env": "prod", "teleport.dev/db-admin": "teleport-admin", "teleport.dev/db-admin-default-database": "postgres"}
	r.fake.Put(r.orders(tags))
	awaitServed(t, r.Env, ordersName)
	alice := r.Hire(t, "alice", "keep", "reader")
	conn := alice.Connect(t, ordersName, "postgres")
	awaitAccount(t, r.Env, "alice", testenv.Account{Exists: true, Login: true, Roles: []string{"rds_iam", "reader", testenv.Group}})
	testenv.Close(t, conn)
	awaitAccount(t, r.Env, "alice", disabled)

	replica := r.Server.Replica(t, nil)
	front := r.fake.Front(t, replica, "eu-west-1")
	r.fake.Put(rdstest.Instance{ID: "copy", Region: "eu-west-1", Host: front.Host, Port: front.Port, ReplicaOf: "orders", Tags: tags})
	const copyName = "copy-rds-eu-west-1-123456789012"
	awaitServed(t, r.Env, copyName)
	conn = alice.Connect(t, copyName, "postgres")
	onReplica(t, conn)
	testenv.Close(t, conn)
	awaitAccount(t, r.Env, "alice", disabled)

	r.fake.Put(r.orders(map[string]string{"env": "prod"}))
	proxy := alice.Proxy(t, identity.Route{Database: ordersName, DatabaseName: "postgres"})
	testenv.Eventually(t, "automatic users are off", func() bool {
		conn, err := testenv.TryConnect(t, proxy)
		if err == nil {
			testenv.Close(t, conn)
			return false
		}
		pg, ok := errors.AsType[*pgconn.PgError](err)
		return ok && contains(pg.Message+pg.Detail, "doesn't have admin user configured")
	})
	r.fake.Fail("DescribeDBInstances", "", "AccessDenied", -1)
	r.fake.Remove("orders")
	r.fake.Remove("copy")
	before := r.fake.Calls("DescribeDBInstances")
	testenv.Eventually(t, "discovery has failed", func() bool { return r.fake.Calls("DescribeDBInstances") > before+2 })
	if !served(t, r.Env, ordersName) || !served(t, r.Env, copyName) {
		t.Error("a search that failed took databases away")
	}
	r.fake.Heal()
	testenv.Eventually(t, "they are gone", func() bool { return !served(t, r.Env, ordersName) && !served(t, r.Env, copyName) })
}

// TestDiscoveryService: what is found becomes resources of the hub, and nobody
// else's resource is touched.
func TestDiscoveryService(t *testing.T) {
	t.Parallel()
	r := startDiscovering(t, everything+`discovery_service:
  poll_interval: 50ms
  aws:
  - types: [rds]
    regions: [eu-west-1]
`)
	own := strings.Replace(r.database("mine", "eu-west-1", ""), "metadata: {name: mine}", "metadata: {name: mine, labels: {teleport.dev/origin: cloud}}", 1)
	r.Apply(t, own)
	r.fake.Put(r.orders(map[string]string{"TeleportDatabaseName": "mine"})) // a name that is taken
	tagged := r.orders(map[string]string{"teleport.dev/db-admin": "teleport-admin"})
	tagged.ID = "orders2"
	r.fake.Put(tagged)
	const name = "orders2-rds-eu-west-1-123456789012"
	awaitServed(t, r.Env, name)
	alice := r.Hire(t, "alice", "keep", "reader")
	testenv.Close(t, alice.Connect(t, name, "postgres"))
	if got := registered(t, r.Env, name).Metadata.Labels["postern.dev/discovery"]; got != "default eu-west-1" {
		t.Errorf("the label of discovery is %q", got)
	}

	tagged.Tags = map[string]string{"teleport.dev/db-admin": "teleport-admin", "env": "prod"}
	r.fake.Put(tagged)
	testenv.Eventually(t, "the tag is followed", func() bool {
		d := registered(t, r.Env, name)
		return d != nil && d.Metadata.Labels["env"] == "prod"
	})
	r.fake.Remove("orders2")
	r.fake.Remove("orders")
	testenv.Eventually(t, "it is gone", func() bool { return registered(t, r.Env, name) == nil })
	if d := registered(t, r.Env, "mine"); d == nil || d.Metadata.Labels["region"] != "" {
		t.Errorf("somebody's own database is %+v", d)
	}

	// What was registered before a restart is known again.
	r.fake.Put(tagged)
	testenv.Eventually(t, "it is back", func() bool { return registered(t, r.Env, name) != nil })
	r.Stop(t)
	r.fake.Fail("DescribeDBClusters", "", "AccessDenied", -1)
	r.fake.Remove("orders2")
	r.Restart(t)
	before := r.fake.Calls("DescribeDBClusters")
	testenv.Eventually(t, "discovery has failed", func() bool { return r.fake.Calls("DescribeDBClusters") > before+2 })
	if registered(t, r.Env, name) == nil {
		t.Error("a search that failed took a database away")
	}
	r.fake.Heal()
	testenv.Eventually(t, "it is gone", func() bool { return registered(t, r.Env, name) == nil })
}

// registered returns a resource of the hub, or nil.
func registered(t *testing.T, env *testenv.Env, name string) *resource.Database {
	t.Helper()
	all, err := api.ListResources().Call(t.Context(), env.Admin(), api.ListResourcesRequest{Kind: resource.KindDatabase})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range all.Resources {
		if item.Name == name {
			d := &resource.Database{}
			if err := json.Unmarshal(item.Body, d); err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	return nil
}

func TestDiscoveryPreview(t *testing.T) {
	t.Parallel()
	r := startDiscovering(t, `db_service:
  aws:
  - {types: [rds], regions: [eu-west-1, us-east-1]}
`)
	r.fake.Put(r.orders(map[string]string{"teleport.dev/db-admin": "boss"}))
	r.fake.Put(rdstest.Instance{ID: "later", Region: "eu-west-1", Status: "creating"})
	r.fake.Fail("DescribeDBClusters", "us-east-1", "AccessDenied", -1)
	preview, err := api.PreviewDiscovery().Call(t.Context(), r.Admin(), api.Empty{})
	if err != nil || len(preview.Searches) != 2 {
		t.Fatalf("got %+v, %v", preview, err)
	}
	west, east := preview.Searches[0], preview.Searches[1]
	if len(west.Databases) != 1 || west.Databases[0].Name != ordersName || west.Databases[0].AdminUser != "boss" ||
		len(west.Skipped) != 1 || west.Skipped[0].Name != "later" || west.Error != "" {
		t.Errorf("eu-west-1: %+v", west)
	}
	if !contains(east.Error, "us-east-1", "cannot be listed") || !contains(east.Hint, "rds:DescribeDBClusters") {
		t.Errorf("us-east-1: %+v", east)
	}
}
