package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("postern.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	for name, load := range map[string]func() (*config.Config, error){
		"no file":    config.Default,
		"empty file": func() (*config.Config, error) { return config.Parse("x", nil) },
		"comment":    func() (*config.Config, error) { return config.Parse("x", []byte("# nothing yet\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load()
			if err != nil {
				t.Fatal(err)
			}
			if c.DataDir != "/state/postern" || c.Hub.ListenAddr != "127.0.0.1:3080" || c.Hub.PublicAddr != "" || c.Hub.ClusterName == "" {
				t.Errorf("got %+v", c)
			}
			if !*c.Hub.Enabled || !*c.DBService.Enabled || c.Log.Level.Slog().String() != "INFO" {
				t.Errorf("got %+v", c)
			}
			if c.DBService.Selects()(database(t, nil)) == nil {
				t.Error("the agent does not serve every registered database")
			}
		})
	}
}

func TestDataDirWithoutStateHome(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "relative/is/ignored")
	t.Setenv("HOME", "/home/alice")
	c, err := config.Default()
	if err != nil || c.DataDir != "/home/alice/.local/state/postern" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ hub, listen, public string }{
		{"listen_addr: '0.0.0.0:443'", "0.0.0.0:443", ""},
		{"listen_addr: 10.0.0.1", "10.0.0.1:3080", ""},
		{"listen_addr: '[::1]:99'", "[::1]:99", ""},
		{"listen_addr: '[::1]'", "[::1]:3080", ""},
		{"listen_addr: '::1'", "[::1]:3080", ""},
		{"listen_addr: ':3080'", ":3080", ""},
		{"public_addr: postern.example.com", "0.0.0.0:3080", "postern.example.com:3080"},
		{"public_addr: 'postern.example.com:443'", "0.0.0.0:3080", "postern.example.com:443"},
		{"{public_addr: 'p.example.com:443', listen_addr: '127.0.0.1:8443'}", "127.0.0.1:8443", "p.example.com:443"},
	} {
		hub := c.hub
		if !strings.HasPrefix(hub, "{") {
			hub = "{" + hub + "}"
		}
		got := parse(t, "data_dir: /d\nhub: "+hub+"\n")
		if got.Hub.ListenAddr != c.listen || got.Hub.PublicAddr != c.public {
			t.Errorf("%s: listens on %s, public is %s", c.hub, got.Hub.ListenAddr, got.Hub.PublicAddr)
		}
	}
}

// keyPair returns the files of a certificate and its key.
func keyPair(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	authority, err := ca.New(ca.Host, "test", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.IssueHost([]string{"hub.example.com"}, nil, key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := ca.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "hub.crt"), filepath.Join(t.TempDir(), "hub.key")
	for file, data := range map[string][]byte{certFile: ca.EncodeCertificates(cert), keyFile: secret} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestBalancers(t *testing.T) {
	t.Parallel()
	got := parse(t, "data_dir: /d\nhub: {proxy_protocol: [10.0.0.5, 10.1.0.0/16, 'fd00::/8', '::ffff:1.2.3.4']}\n")
	var all []string
	for _, n := range got.Hub.ProxyProtocol {
		all = append(all, n.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.5/32", "10.1.0.0/16", "fd00::/8", "1.2.3.4/32"}, all); diff != "" {
		t.Error(diff)
	}
	if text, err := got.Effective(); err != nil || !strings.Contains(text, "- 10.1.0.0/16") {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestErrors holds what is refused: the text with the position, and the hint.
func TestErrors(t *testing.T) {
	t.Parallel()
	database := func(lines string) string {
		return "data_dir: /d\ndb_service:\n  databases:\n  - name: example\n    protocol: postgres\n    uri: localhost:5432\n" + lines
	}
	for _, c := range []struct{ name, text, want, hint string }{
		{"unknown key", "data_dir: /d\nhub:\n  listen_adr: 127.0.0.1:1\n", "postern.yaml:3:3", "listen_addr"},
		{"unknown section", "hubs: {}\n", "postern.yaml:1:1", "hub"},
		{"unknown key of a database", database("    admin_usr: {name: x}\n"), "postern.yaml:7:5", "admin_user"},
		{"wrong type", "hub:\n  enabled: perhaps\n", "postern.yaml:2:12", ""},
		{"log level", "log:\n  level: loud\n", "invalid log level \"loud\"", ""},
		{"log format", "log:\n  format: xml\n", "invalid log format \"xml\"", ""},
		{"not YAML", "hub: [\n", "postern.yaml:", ""},
		{"version", "version: v9\n", `version "v9" is not supported`, "v1"},
		{"no hub", "hub: {enabled: \"no\"}\n", "an agent apart from its hub is not possible yet", "hub.enabled"},
		{"balancer", "hub: {proxy_protocol: [balancer.example.com]}\n", `invalid address "balancer.example.com"`, ""},
		{"balancers of half a network", "hub: {proxy_protocol: [10.0.0.1/8]}\n", `invalid address "10.0.0.1/8"`, ""},
		{"negative limit", "hub: {max_unauthenticated: -1}\n", "cannot be negative", "defaults"},
		{"half a key pair", "hub: {tls: {cert_file: /x}}\n", "hub.tls needs both cert_file and key_file", ""},
		{"cluster name", "hub: {cluster_name: 'a b'}\n", `invalid cluster name "a b"`, "letters, digits and hyphens"},
		{"cluster name with an empty label", "hub: {cluster_name: a..b}\n", `invalid cluster name "a..b"`, ""},
		{"address", "hub: {listen_addr: 'a:b:c:'}\n", "hub.listen_addr", ""},
		{"port", "hub: {listen_addr: '127.0.0.1:99999'}\n", `invalid port "99999"`, ""},
		{"address with a scheme", "hub: {public_addr: 'https://p.example.com'}\n", `hub.public_addr: invalid address "https://p.example.com"`, "without https://"},
		{"missing key pair", "hub: {tls: {cert_file: /no/such.crt, key_file: /no/such.key}}\n", "hub.tls: open /no/such.crt", "PEM"},
		{"database without uri", "db_service:\n  databases:\n  - {name: example, protocol: postgres}\n", `database "example" URI is empty`, ""},
		{"database without protocol", "db_service:\n  databases:\n  - {name: example, uri: 'x:1'}\n", `database "example" protocol is empty`, ""},
		{"database without name", "db_service:\n  databases:\n  - {protocol: postgres, uri: 'x:1'}\n", "db_service.databases #1", ""},
		{"database twice", database("  - {name: example, protocol: postgres, uri: 'x:1'}\n"), `db_service.databases "example": the name is used twice`, ""},
		{"missing CA file", database("    ca_cert_file: /does/not/exist\n"), "there is no file /does/not/exist", ""},
		{"TLS mode", database("    tls: {mode: sometimes}\n"), "sometimes", ""},
		{"dynamic label twice", database("    dynamic_labels:\n    - {name: a, command: [x]}\n    - {name: a, command: [y]}\n"), "name of its own", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("postern.yaml", []byte(c.text))
			f := fault.Of(err)
			if err == nil || f.Kind != fault.Invalid || !strings.Contains(f.Text+"\n"+f.Detail, c.want) || !strings.Contains(f.Text+f.Detail+f.Hint, c.hint) {
				t.Errorf("got %v\n%s\n%s\nhint: %s\nwant %q and the hint %q", f.Kind, f.Text, f.Detail, f.Hint, c.want, c.hint)
			}
		})
	}
}

// TestErrorShowsThePlace with a line of the file and a mark below it.
func TestErrorShowsThePlace(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("postern.yaml", []byte("hub:\n  cluster_name: x\n  listen_adr: 127.0.0.1:1\n"))
	f := fault.Of(err)
	text := f.Text + "\n" + f.Detail
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		at := strings.Index(line, "listen_adr: 127.0.0.1:1")
		if at < 0 {
			continue
		}
		if i+1 == len(lines) || strings.Index(lines[i+1], "^") != at {
			t.Errorf("the mark is not below the key:\n%s", text)
		}
		return
	}
	t.Errorf("the line is not shown:\n%s", text)
}

func TestAllErrorsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("postern.yaml", []byte("hubb: {}\nhub:\n  listen_adr: x\n  cluster_nam: y\n"))
	f := fault.Of(err)
	for _, place := range []string{"postern.yaml:1:1", "postern.yaml:3:3", "postern.yaml:4:3"} {
		if !strings.Contains(f.Text+f.Detail, place) {
			t.Errorf("%s is missing in:\n%s\n%s", place, f.Text, f.Detail)
		}
	}
}

// TestSeedSection: the section of the seed guide loads as it stands there.
func TestSeedSection(t *testing.T) {
	t.Parallel()
	section, err := os.ReadFile("../../testdata/seed/db_service.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, "data_dir: /d\n"+string(section))
	all, err := c.DBService.Static()
	if err != nil || len(all) != 1 {
		t.Fatalf("got %v, %v", all, err)
	}
	admin, dbname := all[0].AdminUser()
	got := []string{all[0].GetName(), all[0].Spec.Protocol, all[0].Spec.URI, admin, dbname}
	if diff := cmp.Diff([]string{"example", "postgres", "localhost:5432", "teleport-admin", ""}, got); diff != "" {
		t.Errorf("database (-want +got):\n%s", diff)
	}
	if c.DBService.Selects()(database(t, map[string]string{"a": "b"})) != nil {
		t.Error("registered databases are served, though the section names none")
	}
}

// TestEveryFieldOfADatabase reaches the resource.
func TestEveryFieldOfADatabase(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.pem")
	pem, err := os.ReadFile("../resource/testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	c := parse(t, `data_dir: /d
db_service:
  enabled: true
  databases:
  - name: full
    description: everything
    protocol: postgres
    uri: db.example.com:5432
    tls: {mode: verify-ca, server_name: other.example.com, ca_cert_file: `+file+`, trust_system_cert_pool: true}
    ca_cert_file: /not/looked/at
    admin_user: {name: boss, default_database: maintenance}
    static_labels: {env: prod}
    dynamic_labels:
    - {name: host, command: [hostname, -f], period: 1m}
`)
	all, err := c.DBService.Static()
	if err != nil {
		t.Fatal(err)
	}
	d := all[0]
	admin, dbname := d.AdminUser()
	got := map[string]any{
		"description": d.Metadata.Description, "labels": d.Labels(), "mode": d.TLSMode(), "server name": d.Spec.TLS.ServerName,
		"ca": d.CACert(), "pool": d.Spec.TLS.TrustSystemCertPool, "admin": admin + "@" + dbname,
		"command": d.Spec.DynamicLabels["host"].Command, "period": d.Spec.DynamicLabels["host"].Period.Std().String(),
	}
	want := map[string]any{
		"description": "everything", "labels": map[string]string{"env": "prod"}, "mode": resource.TLSVerifyCA, "server name": "other.example.com",
		"ca": string(pem), "pool": true, "admin": "boss@maintenance", "command": []string{"hostname", "-f"}, "period": "1m0s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("database (-want +got):\n%s", diff)
	}
}

func TestCACertFileInItsOlderPlace(t *testing.T) {
	t.Parallel()
	file := "../resource/testdata/ca.pem"
	c := parse(t, "data_dir: /d\ndb_service:\n  databases:\n  - {name: a, protocol: postgres, uri: 'x:1', ca_cert_file: "+file+"}\n")
	all, err := c.DBService.Static()
	if err != nil || !strings.Contains(all[0].CACert(), "BEGIN CERTIFICATE") {
		t.Errorf("got %v, %v", all, err)
	}
}

// TestMatchers of registered databases, with the rule about an empty one.
func TestMatchers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, section string
		labels        map[string]string
		want          bool
	}{
		{"all", `resources: [{labels: {"*": "*"}}]`, nil, true},
		{"one label", `resources: [{labels: {env: prod}}]`, map[string]string{"env": "prod", "x": "y"}, true},
		{"another value", `resources: [{labels: {env: prod}}]`, map[string]string{"env": "dev"}, false},
		{"several values", `resources: [{labels: {env: [prod, dev]}}]`, map[string]string{"env": "dev"}, true},
		{"glob", `resources: [{labels: {env: "pr*"}}]`, map[string]string{"env": "prod"}, true},
		{"any of them", `resources: [{labels: {env: prod}}, {labels: {env: dev}}]`, map[string]string{"env": "dev"}, true},
		{"empty one first", `resources: [{}, {labels: {"*": "*"}}]`, nil, false},
		{"empty one last", `resources: [{labels: {"*": "*"}}, {}]`, nil, false},
		{"broken one beside another", `resources: [{labels: {env: "^($"}}, {labels: {env: dev}}]`, map[string]string{"env": "dev"}, true},
		{"none, with static ones", `databases: [{name: a, protocol: postgres, uri: "x:1"}]`, nil, false},
		{"none, enabled", `enabled: "yes"`, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := parse(t, "data_dir: /d\ndb_service: {"+c.section+"}\n")
			if got := cfg.DBService.Selects()(database(t, c.labels)) != nil; got != c.want {
				t.Errorf("selected: %t, want %t", got, c.want)
			}
		})
	}
}

func TestWordsForYesAndNo(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]bool{"yes": true, `"yes"`: true, "true": true, "on": true, "no": false, `"no"`: false, "false": false, "off": false} {
		if got := *parse(t, "data_dir: /d\ndb_service: {enabled: "+word+"}\n").DBService.Enabled; got != want {
			t.Errorf("%s is %t", word, got)
		}
	}
}

// TestEffectiveRoundTrip: what is printed means the same when it is read.
func TestEffectiveRoundTrip(t *testing.T) {
	t.Parallel()
	certFile, keyFile := keyPair(t)
	for name, text := range map[string]string{
		"default": "data_dir: /d\n",
		"seed":    "data_dir: /d\n" + mustRead(t, "../../testdata/seed/db_service.yaml"),
		"full": `version: v3
data_dir: /d
log: {level: debug, format: json}
hub: {cluster_name: Main.Example.com, listen_addr: "0.0.0.0:443", public_addr: "p.example.com", tls: {cert_file: ` + certFile + `, key_file: ` + keyFile + `}}
db_service:
  enabled: true
  resources:
  - labels: {env: [prod, dev], "on": "yes"}
    aws: {assume_role_arn: arn, external_id: id}
  aws: [{types: [rds], regions: [eu-west-1], tags: {"*": "*"}}]
  azure: [{types: [postgres]}]
  databases:
  - name: full
    protocol: postgres
    uri: "localhost:5432"
    tls: {mode: insecure, server_name: x, trust_system_cert_pool: true}
    admin_user: {name: boss, default_database: "null"}
    static_labels: {a: "1", b: "true", c: "~", d: ""}
    dynamic_labels: [{name: h, command: [echo, "1", "a: b"], period: 90s}]
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := parse(t, text)
			printed, err := first.Effective()
			if err != nil {
				t.Fatal(err)
			}
			second, err := config.Parse("effective.yaml", []byte(printed))
			if err != nil {
				t.Fatalf("%v\n%s", err, printed)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("changed (-before +after):\n%s\n%s", diff, printed)
			}
			again, err := second.Effective()
			if err != nil || again != printed {
				t.Errorf("printed differently the second time, %v:\n%s", err, again)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := config.Load(filepath.Join(dir, "none.yaml")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("missing file: %v", err)
	}
	if _, err := config.Load(dir); fault.KindOf(err) != fault.Invalid || err == nil {
		t.Errorf("directory: %v", err)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(large); fault.KindOf(err) != fault.Invalid || err == nil {
		t.Errorf("large file: %v", err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("data_dir: /d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Load(good); err != nil || c.DataDir != "/d" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// database returns a registered database with these labels.
func database(t *testing.T, labels map[string]string) *resource.Database {
	t.Helper()
	return &resource.Database{Kind: "db", Version: "v3", Metadata: resource.Metadata{Name: "x", Labels: labels}}
}

func TestMatcherNamesTheRoleToAssume(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("test.yaml", []byte(`data_dir: /tmp/x
db_service:
  resources:
  - labels: {account: shop}
    aws: {assume_role_arn: "arn:aws:iam::210987654321:role/postern", external_id: abc}
  - labels: {"*": "*"}
`))
	if err != nil {
		t.Fatal(err)
	}
	selects := cfg.DBService.Selects()
	if got := selects(database(t, map[string]string{"account": "shop"})).Spec.AWS; got.AssumeRoleARN != "arn:aws:iam::210987654321:role/postern" || got.ExternalID != "abc" {
		t.Errorf("the role is not applied: %+v", got)
	}
	other := database(t, map[string]string{"account": "other"})
	if got := selects(other); got != other {
		t.Errorf("got %+v, want the database itself", got)
	}
}
