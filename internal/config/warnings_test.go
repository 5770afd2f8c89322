package config_test

import (
	"strings"
	"testing"
)

// TestWarnings are about what is valid, but surely not meant.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ section, want string }{
		"nothing":               {`resources: [{labels: {env: prod}}, {labels: {"*": "*"}}]`, ""},
		"only static ones":      {`databases: [{name: a, protocol: postgres, uri: "x:1"}]`, ""},
		"not enabled":           {`enabled: "no", databases: [{name: a, protocol: postgres, uri: "x:1"}]`, "nothing below it is served"},
		"not enabled and empty": {`enabled: "no"`, ""},
		"no labels":             {`resources: [{labels: {env: prod}}, {}]`, "#2 has no labels"},
		"a label called *":      {`resources: [{labels: {"*": prod}}]`, "#1 asks for a label that is called *"},
		"broken pattern":        {`resources: [{labels: {env: "^($"}}]`, "#1 selects nothing: "},
		"discovery":             {`aws: [{types: [rds]}]`, "db_service.aws: discovery is not available"},
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
