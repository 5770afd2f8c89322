package cli_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/rdstest"
	"github.com/postern-db/postern/internal/testenv"
)

// TestDiscoveryPreview: one search of two fails, which makes the command fail after
// all is shown.
func TestDiscoveryPreview(t *testing.T) {
	t.Parallel()
	fake := rdstest.Start(t)
	env := testenv.Start(t, testenv.Options{NoServer: true, AWS: fake.Config(), Service: `db_service:
  aws:
  - {types: [rds], regions: [eu-west-1, us-east-1]}
`})
	for _, i := range []rdstest.Instance{
		{ID: "orders", Port: 1, Tags: map[string]string{"teleport.dev/db-admin": "boss"}},
		{ID: "orders-copy", Port: 2, ReplicaOf: "orders"},
		{ID: "later", Port: 3, Status: "creating"},
	} {
		i.Region, i.Host = "eu-west-1", "127.0.0.1"
		fake.Put(i)
	}
	fake.Fail("DescribeDBClusters", "us-east-1", "AccessDenied", -1)

	environ := []string{"HOME=" + t.TempDir(), "POSTERN_DATA_DIR=" + env.DataDir}
	code, out, talk := runIn(t, environ, "postern", "ctl", "discovery", "preview")
	want := `eu-west-1: 2 databases
Name                                    URI          Admin user                  Writer
--------------------------------------  -----------  --------------------------  -----------
orders-rds-eu-west-1-123456789012       127.0.0.1:1  boss
orders-copy-rds-eu-west-1-123456789012  127.0.0.1:2  (none: no automatic users)  127.0.0.1:1
not registered: later: its status is creating

us-east-1: 0 databases
`
	if diff := cmp.Diff(want, out); code != 1 || diff != "" {
		t.Errorf("exit code %d, %s", code, diff)
	}
	if !strings.Contains(talk, "postern: warning: us-east-1: the databases in us-east-1 cannot be listed: Amazon answers AccessDenied") ||
		!strings.Contains(talk, "postern: hint: Allow the agent") {
		t.Errorf("it says %s", talk)
	}
	for format, want := range map[string]string{"json": `"why": "its status is creating"`, "yaml": "error: the databases in us-east-1 cannot be listed"} {
		if code, out, talk := runIn(t, environ, "tctl", "discovery", "preview", "--format="+format); code != 1 || !strings.Contains(out, want) || strings.Contains(talk, "warning") {
			t.Errorf("%s: exit code %d\n%s%s", format, code, out, talk)
		}
	}
}
