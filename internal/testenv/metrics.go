package testenv

import (
	"io"
	"net/http"
	"regexp"
	"testing"
)

// ServeMetrics is a line of [Options].Service that has metrics served, on a port that is free.
const ServeMetrics = "metrics_addr: 127.0.0.1:0\n"

var metricsLine = regexp.MustCompile(`msg="serving metrics" addr=(\S+)`)

// MetricsAddr returns the host:port that serves metrics; see [ServeMetrics].
func (e *Env) MetricsAddr(t testing.TB) string {
	t.Helper()
	lines := metricsLine.FindAllStringSubmatch(e.Log(), -1)
	if len(lines) == 0 {
		t.Fatal("no metrics are served")
	}
	return lines[len(lines)-1][1]
}

// Metrics returns what the gateway counts and measures, as Prometheus reads it.
func (e *Env) Metrics(t testing.TB) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+e.MetricsAddr(t)+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v", resp.Status, err)
	}
	return string(text)
}
