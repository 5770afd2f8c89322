package resource_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func database(t *testing.T, spec string) *resource.Database {
	t.Helper()
	return parseOne(t, "kind: db\nmetadata: {name: example}\nspec: {protocol: postgres, "+spec+"}").(*resource.Database)
}

// TestSection1_1Database covers the validation of kind db.
func TestSection1_1Database(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "A", "a-b", "a1", "Example-2", strings.Repeat("a", 100)} {
		parseOne(t, "kind: db\nmetadata: {name: "+name+"}\nspec: {protocol: postgres, uri: x}")
	}
	for _, name := range []string{"", "1a", "-a", "a-", "a_b", "a.b", "ä", strings.Repeat("a", 256)} {
		got := parseError(t, "kind: db\nmetadata: {name: '"+name+"'}\nspec: {protocol: postgres, uri: x}")
		if !strings.Contains(got, "invalid database name") {
			t.Errorf("%q: got %s", name, got)
		}
	}
	d := parseOne(t, "kind: db\nversion: v1\nmetadata: {name: a}\nspec: {protocol: postgres, uri: x}")
	if got := d.(*resource.Database).Version; got != "v3" {
		t.Errorf("version = %q, want the forced v3", got)
	}
	for _, tt := range []struct{ name, spec, want string }{
		{"no protocol", `uri: "x:1"`, `database "d" protocol is empty`},
		{"other protocol", `protocol: mysql, uri: "x:1"`, `protocol "mysql" is not supported`},
		{"no uri", "protocol: postgres", `database "d" URI is empty`},
		{"bad uri", `protocol: postgres, uri: "x:y"`, `invalid port "y"`},
		{"tls mode", `protocol: postgres, uri: x, tls: {mode: verify-none}`, "invalid tls mode"},
		{"ca", `protocol: postgres, uri: x, tls: {ca_cert: x}`, "invalid server CA certificate"},
		{"ca in the old place", `protocol: postgres, uri: x, ca_cert: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"`, "invalid server CA certificate"},
		{"dynamic label without command", `protocol: postgres, uri: x, dynamic_labels: {a: {period: 1m}}`, "needs a command"},
		{"dynamic label key", `protocol: postgres, uri: x, dynamic_labels: {"a b": {command: [x]}}`, `invalid label key "a b"`},
		{"account id", `protocol: postgres, uri: x, aws: {account_id: "123"}`, "invalid AWS account id"},
		{"external id alone", `protocol: postgres, uri: x, aws: {external_id: "123"}`, "external_id needs assume_role_arn"},
		{"one gcp id", `protocol: postgres, uri: x, gcp: {project_id: p}`, "both or not at all"},
		{"azure host", `protocol: postgres, uri: "a.b.postgres.database.azure.com:5432"`, "Azure host name"},
		{"aurora custom endpoint", `protocol: postgres, uri: "x.cluster-custom-abc.eu-west-1.rds.amazonaws.com:5432"`, "needs aws.rds.cluster_id"},
		{"odd aws host", `protocol: postgres, uri: "x.rds.amazonaws.com:5432"`, "does not look like one of a database"},
		{
			"admin user on gcp", `protocol: postgres, uri: x, gcp: {project_id: p, instance_id: i}, admin_user: {name: a}`,
			`cannot set admin user on database "d": postgres/gcp databases don't support automatic user provisioning yet`,
		},
		{
			"admin user on redshift", `protocol: postgres, uri: x, aws: {redshift: {cluster_id: c}}, admin_user: a`,
			`postgres/redshift databases don't support automatic user provisioning yet`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := parseError(t, "kind: db\nmetadata: {name: d}\nspec: {"+tt.spec+"}"); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
	if got := parseError(t, "kind: db\nmetadata: {name: d, labels: {\"\": x}}\nspec: {protocol: postgres, uri: x}"); !strings.Contains(got, "invalid label key") {
		t.Errorf("got %s", got)
	}
}

// TestSection1_2Type covers the order in which the type is told.
func TestSection1_2Type(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spec      string
		want      resource.DatabaseType
		provision bool
	}{
		{`uri: "localhost:5432"`, resource.TypeSelfHosted, true},
		{`uri: "ec2-1-2-3-4.compute-1.amazonaws.com:5432"`, resource.TypeSelfHosted, true},
		{`uri: x, aws: {region: eu-west-1}`, resource.TypeRDS, true},
		{`uri: x, aws: {rds: {instance_id: a}}`, resource.TypeRDS, true},
		{`uri: x, aws: {rds: {resource_id: a}}`, resource.TypeRDS, true},
		{`uri: x, aws: {rds: {cluster_id: a}}`, resource.TypeRDS, true},
		{`uri: x, aws: {rdsproxy: {name: a}, rds: {instance_id: b}}`, resource.TypeRDSProxy, false},
		{`uri: x, aws: {rdsproxy: {custom_endpoint_name: a}}`, resource.TypeRDSProxy, false},
		{`uri: x, aws: {redshift_serverless: {workgroup_name: a}, rdsproxy: {name: a}}`, resource.TypeRedshiftServerless, false},
		{`uri: x, aws: {redshift: {cluster_id: a}, redshift_serverless: {workgroup_name: a}}`, resource.TypeRedshift, false},
		{`uri: x, gcp: {project_id: p, instance_id: i}`, resource.TypeCloudSQL, false},
		{`uri: x, azure: {name: a}`, resource.TypeAzure, false},
		{`uri: "alloydb://projects/p/locations/l/clusters/c/instances/i"`, resource.TypeAlloyDB, false},
		{`uri: "shop.abc.eu-west-1.rds.amazonaws.com:5432"`, resource.TypeRDS, true},
		{`uri: "shop.abc.cn-north-1.rds.amazonaws.com.cn:5432"`, resource.TypeRDS, true},
		{`uri: "shop.proxy-abc.eu-west-1.rds.amazonaws.com:5432"`, resource.TypeRDSProxy, false},
		{`uri: "own.endpoint.proxy-abc.eu-west-1.rds.amazonaws.com:5432"`, resource.TypeRDSProxy, false},
		{`uri: "shop.cluster-ro-abc.eu-west-1.rds.amazonaws.com:5432"`, resource.TypeRDS, true},
		{`uri: "own.cluster-custom-abc.eu-west-1.rds.amazonaws.com:5432", aws: {rds: {cluster_id: c}}`, resource.TypeRDS, true},
		{`uri: "dwh.abc.eu-west-1.redshift.amazonaws.com:5439"`, resource.TypeRedshift, false},
		{`uri: "wg.123456789012.eu-west-1.redshift-serverless.amazonaws.com:5439"`, resource.TypeRedshiftServerless, false},
		{`uri: "shop.postgres.database.azure.com:5432"`, resource.TypeAzure, false},
	} {
		d := database(t, tt.spec)
		if got := d.Type(); got != tt.want || d.CanProvision() != tt.provision {
			t.Errorf("%s: got %s, provisions %t; want %s, %t", tt.spec, got, d.CanProvision(), tt.want, tt.provision)
		}
	}
	d := database(t, `uri: "shop.abc.eu-west-1.rds.amazonaws.com:5432"`)
	if d.Spec.AWS.Region != "eu-west-1" || d.Spec.AWS.RDS.InstanceID != "shop" {
		t.Errorf("aws = %+v, want region and instance from the host name", d.Spec.AWS)
	}
	d = database(t, `uri: "shop.abc.eu-west-1.rds.amazonaws.com:5432", aws: {region: us-east-1}`)
	if d.Spec.AWS.Region != "us-east-1" {
		t.Errorf("region = %q, want the configured one", d.Spec.AWS.Region)
	}
	mysql := &resource.Database{Spec: resource.DatabaseSpec{Protocol: "mysql"}}
	if mysql.CanProvision() {
		t.Error("a mysql server provisions")
	}
}

// TestSection1_4AdminUser: each field falls back on its own label.
func TestSection1_4AdminUser(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ labels, admin, name, database string }{
		{"", "", "", ""},
		{"", "admin_user: bare", "bare", ""},
		{"", "admin_user: {name: a, default_database: d}", "a", "d"},
		{"teleport.dev/db-admin: l", "", "l", ""},
		{"teleport.dev/db-admin: l, teleport.dev/db-admin-default-database: ld", "admin_user: {name: a}", "a", "ld"},
		{"teleport.dev/db-admin: l, teleport.dev/db-admin-default-database: ld", "admin_user: {default_database: d}", "l", "d"},
	} {
		d := parseOne(t, "kind: db\nmetadata: {name: a, labels: {"+tt.labels+"}}\nspec: {protocol: postgres, uri: x, "+tt.admin+"}").(*resource.Database)
		if name, database := d.AdminUser(); name != tt.name || database != tt.database {
			t.Errorf("%s %s: got %q %q", tt.labels, tt.admin, name, database)
		}
		labels := d.Labels()
		labels["x"] = "y"
		if _, changed := d.Metadata.Labels["x"]; changed {
			t.Error("Labels returns the map of the resource")
		}
	}
}

// TestSection1_1Precedence covers certificates, TLS mode and authentication.
func TestSection1_1Precedence(t *testing.T) {
	t.Parallel()
	ca, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	d := &resource.Database{Metadata: resource.Metadata{Name: "a"}, Spec: resource.DatabaseSpec{Protocol: "postgres", URI: "x"}}
	if d.CACert() != "" || d.TLSMode() != resource.TLSVerifyFull || d.AuthMethod() != resource.AuthCertificate {
		t.Error("defaults")
	}
	d.Status = &resource.DatabaseStatus{CACert: "discovered"}
	if d.CACert() != "discovered" {
		t.Error("status.ca_cert")
	}
	d.Spec.CACert = string(ca)
	if d.CACert() != string(ca) {
		t.Error("spec.ca_cert comes before status")
	}
	d.Spec.TLS.CACert = string(ca) + string(ca)
	if d.CACert() != string(ca)+string(ca) {
		t.Error("spec.tls.ca_cert comes first")
	}
	if err := resource.Validate(d); err != nil {
		t.Errorf("two certificates: %v", err)
	}
	d.Spec.TLS.Mode, d.Spec.Auth = resource.TLSInsecure, resource.AuthPassword
	if d.TLSMode() != resource.TLSInsecure || d.AuthMethod() != resource.AuthPassword {
		t.Error("configured modes")
	}
	d.Spec.Auth, d.Spec.AWS.Region = "", "eu-west-1"
	if d.AuthMethod() != resource.AuthIAM {
		t.Error("cloud databases use tokens")
	}
}

func TestSection1_1URI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		uri  string
		want resource.Endpoint
	}{
		{"localhost:5432", resource.Endpoint{Hosts: []resource.Host{{"localhost", 5432}}}},
		{"localhost", resource.Endpoint{Hosts: []resource.Host{{"localhost", 5432}}}},
		{"postgres://bob:pw@h:1/app?sslmode=disable", resource.Endpoint{Hosts: []resource.Host{{"h", 1}}, Params: map[string]string{"sslmode": "disable"}}},
		{"postgresql://h:1/app", resource.Endpoint{Hosts: []resource.Host{{"h", 1}}}},
		{"a:1,b:2,c", resource.Endpoint{Hosts: []resource.Host{{"a", 1}, {"b", 2}, {"c", 5432}}}},
		{"[::1]:6000,[fe80::1]", resource.Endpoint{Hosts: []resource.Host{{"::1", 6000}, {"fe80::1", 5432}}}},
		{"/var/run/postgresql", resource.Endpoint{Hosts: []resource.Host{{"/var/run/postgresql", 5432}}}},
		{"/var/run/postgresql:6000", resource.Endpoint{Hosts: []resource.Host{{"/var/run/postgresql", 6000}}}},
		{"%2Ftmp:6000/app", resource.Endpoint{Hosts: []resource.Host{{"/tmp", 6000}}}},
		{"?host=/tmp&port=6000&a=1&a=2", resource.Endpoint{Hosts: []resource.Host{{"/tmp", 6000}}, Params: map[string]string{"a": "2"}}},
		{"a,b?target_session_attrs=prefer-standby&connect_timeout=3", resource.Endpoint{Hosts: []resource.Host{{"a", 5432}, {"b", 5432}}, Target: "prefer-standby", ConnectTimeout: 3 * time.Second}},
		{"h/?port=6000", resource.Endpoint{Hosts: []resource.Host{{"h", 6000}}}},
	} {
		got, err := resource.ParseEndpoint(tt.uri)
		if err != nil {
			t.Errorf("%s: %v", tt.uri, err)
			continue
		}
		if len(got.Params) == 0 {
			got.Params = nil
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.uri, diff)
		}
	}
	for uri, want := range map[string]string{
		"": "a host is empty", "h:": "", "h:0": "invalid port", "h:99999": "invalid port", "h:x": "invalid port", "a,,b": "a host is empty",
		"mysql://h": "expected host:port", "::1": "in brackets", "[x]:1": "not an IPv6 address", "[::1]x": "unexpected text",
		"a b:1": "blanks", "%zz": "invalid URL escape", "h?%zz": "invalid URL escape", "h?target_session_attrs=master": "want one of any, read-write", "h?connect_timeout=-1": "want seconds", strings.Repeat("h,", 40) + "h": "more than 32 hosts",
	} {
		_, err := resource.ParseEndpoint(uri)
		if got := fmtErr(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%q: got %v, want %q", uri, err, want)
		} else if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: kind %v", uri, fault.KindOf(err))
		}
	}
	d := database(t, `uri: "h:1,[::1]:2"`)
	hosts := d.Hosts()
	if hosts[1].Address() != "[::1]:2" || hosts[1].Network() != "tcp" {
		t.Errorf("address = %s", hosts[1].Address())
	}
	socket := resource.Host{Host: "/tmp/", Port: 5432}
	if socket.Address() != "/tmp/.s.PGSQL.5432" || socket.Network() != "unix" {
		t.Errorf("address = %s", socket.Address())
	}
	if hosts := database(t, `uri: "alloydb://x"`).Hosts(); hosts != nil {
		t.Errorf("hosts of an AlloyDB URI = %v", hosts)
	}
}

// TestAdminPassword: where the admin's password is said to be, and where not.
func TestAdminPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, want string }{
		{"auth: password, admin_user: {name: boss, password_file: /etc/boss}", ""},
		{"auth: password, admin_user: {name: boss, password_env: BOSS}", ""},
		{"auth: password, admin_user: {name: boss, password_command: [vault, read, x]}", ""},
		{"auth: password, admin_user: boss", ""},
		{"admin_user: {name: boss, password_file: /etc/boss}", "of use only with auth: password"},
		{"auth: password, admin_user: {name: boss, password_file: boss}", "not absolute"},
		{"auth: password, admin_user: {name: boss, password_file: /etc/boss, password_env: BOSS}", "given twice"},
		{"auth: password, admin_user: {name: boss, password_env: A=B}", "not the name of an environment variable"},
		{"auth: password, admin_user: {name: boss, password: secret}", "password"},
	} {
		_, err := resource.Parse("db.yaml", []byte("kind: db\nversion: v3\nmetadata: {name: a}\nspec: {protocol: postgres, uri: 'h:1', "+c.spec+"}\n"))
		if got := fmtErr(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	const aurora = "abc123.eu-west-1.rds.amazonaws.com:5432"
	tests := []struct{ name, spec, labels, want string }{
		{name: "none", spec: "uri: localhost:5432"},
		{name: "configured", spec: "uri: replica:5432, admin_user: {name: admin, uri: 'primary:5433'}", want: "primary:5433"},
		{name: "label", spec: "uri: replica:5432", labels: "postern.dev/writer: primary", want: "primary:5432"},
		{name: "configured before label", spec: "uri: replica:5432, admin_user: {name: admin, uri: first}", labels: "postern.dev/writer: second", want: "first:5432"},
		{name: "aurora reader", spec: "uri: shop.cluster-ro-" + aurora, want: "shop.cluster-" + aurora},
		{name: "aurora custom", spec: "uri: fast.cluster-custom-" + aurora + ", aws: {rds: {cluster_id: shop}}", want: "shop.cluster-" + aurora},
		{name: "aurora writer", spec: "uri: shop.cluster-" + aurora},
		{name: "instance", spec: "uri: shop." + aurora},
		{name: "lookalike", spec: "uri: shop.cluster-ro-abc.example.com:5432, aws: {region: eu-west-1}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			all, err := resource.Parse("test.yaml", []byte("kind: db\nversion: v3\nmetadata: {name: shop, labels: {"+test.labels+"}}\nspec: {protocol: postgres, "+test.spec+"}"))
			if err != nil {
				t.Fatal(err)
			}
			writer, err := all[0].(*resource.Database).Writer()
			got := ""
			if len(writer.Hosts) > 0 {
				got = writer.Hosts[0].Address()
			}
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	_, err := resource.Parse("test.yaml", []byte("kind: db\nversion: v3\nmetadata: {name: shop}\nspec: {protocol: postgres, uri: replica, admin_user: {name: admin, uri: 'a:b:c'}}"))
	if err == nil || !strings.Contains(err.Error(), "the writer's host:port") {
		t.Errorf("a writer that makes no sense gives %v", err)
	}
}
