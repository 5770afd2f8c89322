package daemon_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/testenv"
)

// TestMetrics are served on their own address, count what happens, and name nobody.
func TestMetrics(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Service: testenv.SeedService + testenv.ServeMetrics})
	addr := env.MetricsAddr(t)
	alice := env.Hire(t, "alice", "keep", "reader")
	conn := alice.Connect(t, testenv.Database, "postgres")
	env.Apply(t, strings.Replace(testenv.Role("nowhere", "keep"), `db_names: ["*"]`, "db_names: [other]", 1))
	env.AddUser(t, "bob", []string{"nowhere"}, nil)
	if refused := env.As(t, "bob").Refused(t, testenv.Database, "postgres"); refused.Code != "28000" {
		t.Errorf("bob is refused with %s", refused.Code)
	}

	text := env.Metrics(t)
	for _, line := range []string{
		`postern_sessions_open{database="example"} 1`,
		`postern_sessions_refused_total{kind="denied",sqlstate="28000"} 1`,
		`postern_session_step_seconds_count{step="connect"} 1`,
		`postern_session_step_seconds_count{step="provision"} 1`,
		`postern_provision_statements_count{work="activate"} 1`,
		`postern_bundles{database="example"} 0`,
		`postern_provision_retries_total{database="example"} `,
		`postern_cancels_refused_total 0`,
		`postern_sweeps_total{database="example",result="clean"} `,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("not there: %s", line)
		}
	}
	testenv.Close(t, conn)
	testenv.Eventually(t, "the release is measured", func() bool {
		text = env.Metrics(t)
		return strings.Contains(text, `postern_provision_seconds_count{work="release"} 1`) && strings.Contains(text, `postern_sessions_open{database="example"} 0`)
	})
	for _, name := range []string{"alice", "bob", "reader", "nowhere"} {
		if strings.Contains(text, name) {
			t.Errorf("the metrics name %s", name)
		}
	}
	page, err := os.ReadFile(filepath.FromSlash("../../docs/reference/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range regexp.MustCompile(`(?m)^# TYPE (postern_\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(page), "| `"+metric[1]+"` |") {
			t.Errorf("the reference does not say what %s is", metric[1])
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	get(t, "http://"+addr+"/", http.StatusNotFound)
	get(t, "http://"+addr+"/debug/pprof/", http.StatusNotFound)
	getWith(t, env.Admin().HTTP, env.Admin().Base+"/metrics", http.StatusNotFound) // not the hub's own API
	getWith(t, env.API(t).HTTP, env.API(t).Base+"/metrics", http.StatusNotFound)
}

// TestMetricsAddress is refused where it is not one.
func TestMetricsAddress(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":3081", "3081"} {
		if err := parseConfig("data_dir: /d\nmetrics_addr: '" + addr + "'\n"); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func get(t *testing.T, url string, status int) string {
	t.Helper()
	return getWith(t, http.DefaultClient, url, status)
}

func getWith(t *testing.T, client *http.Client, url string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s answers %s, %v, want %d", url, resp.Status, err, status)
	}
	return string(body)
}

func parseConfig(text string) error {
	_, err := config.Parse("x", []byte(text))
	return err
}
