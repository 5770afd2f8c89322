package config_test

import (
	"strings"
	"testing"
)

// TestWarnings are about what is valid, but surely not meant.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for hub, want := range map[string]string{
		"public_addr: 'p.example.com'":                                    "",
		"public_addr: 'p.example.com:443'":                                "hub.public_addr has port 443, but the hub listens on 0.0.0.0:3080",
		"public_addr: 'p.example.com:443', listen_addr: '127.0.0.1:8443'": "",
	} {
		got := strings.Join(parse(t, "data_dir: /d\nhub: {"+hub+"}\n").Warnings(), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", hub, got, want)
		}
	}
	for addr, warned := range map[string]bool{"127.0.0.1:3081": false, "'[::1]:3081'": false, "localhost:3081": false, "10.0.0.7:3081": true, "0.0.0.0:3081": true} {
		if got := parse(t, "data_dir: /d\nmetrics_addr: "+addr+"\n").Warnings(); len(got) > 0 != warned {
			t.Errorf("metrics_addr %s: got %q", addr, got)
		}
	}
	for name, c := range map[string]struct{ section, want string }{
		"nothing":               {`resources: [{labels: {env: prod}}, {labels: {"*": "*"}}]`, ""},
		"only static ones":      {`databases: [{name: a, protocol: postgres, uri: "x:1"}]`, ""},
		"not enabled":           {`enabled: "no", databases: [{name: a, protocol: postgres, uri: "x:1"}]`, "nothing below it is served"},
		"not enabled and empty": {`enabled: "no"`, ""},
		"no labels":             {`resources: [{labels: {env: prod}}, {}]`, "#2 has no labels"},
		"a label called *":      {`resources: [{labels: {"*": prod}}]`, "#1 asks for a label that is called *"},
		"broken pattern":        {`resources: [{labels: {env: "^($"}}]`, "#1 selects nothing: "},
		"discovery":             {`aws: [{types: [rds], regions: [eu-west-1]}]`, ""},
		"discovery of others":   {`aws: [{types: [rds, redshift], regions: [eu-west-1]}]`, "db_service.aws #1: only rds is discovered, not redshift"},
		"discovery at Azure":    {`azure: [{types: [postgres]}]`, "db_service.azure: discovery is not available"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parse(t, "data_dir: /d\ndb_service: {"+c.section+"}\n").Warnings()
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
