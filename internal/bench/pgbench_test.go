package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// scale of pgbench's tables: 1,000,000 accounts, all of which fit into memory.
const scale = 10

// pipelineLength is how many queries a pipeline holds; it counts as one transaction.
const pipelineLength = 10

var (
	clientCounts = []int{1, 8, 32}
	protocols    = []string{"simple", "extended", "prepared", "pipelined"}
)

// cell is one field of the matrix: its figures for each peer, one for each round.
type cell struct {
	clients  int
	protocol string
	tps      map[string][]float64
	cpu      map[string][]float64 // µs for each transaction
}

// BenchmarkPgbench runs select-only transactions through every peer in turn.
func BenchmarkPgbench(b *testing.B) {
	seconds, rounds := setting(b, "SECONDS", 2), setting(b, "ROUNDS", 3)
	_, peers := startPeers(b)
	peers[0].run(b, nil, "pgbench", "-i", "-q", "-I", "dtgvp", "-s", strconv.Itoa(scale))
	script := filepath.Join(b.TempDir(), "pipeline.sql")
	writeFile(b, script, []byte(fmt.Sprintf("\\startpipeline\n%s\\endpipeline\n", strings.Repeat(
		fmt.Sprintf("\\set aid random(1, %d)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n", scale*100_000), pipelineLength))))
	var cells []*cell
	for b.Loop() {
		for _, clients := range clientCounts {
			for _, protocol := range protocols {
				c := &cell{clients: clients, protocol: protocol, tps: map[string][]float64{}, cpu: map[string][]float64{}}
				for range rounds {
					for _, p := range peers {
						c.measure(b, p, script, seconds)
					}
				}
				cells = append(cells, c)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // how long it took says nothing
	report(b, cells)
}

// result is where pgbench says how fast it was.
var result = regexp.MustCompile(`number of transactions actually processed: (\d+)[^\n]*\n(?s:.*)tps = ([0-9.]+) \(without`)

func (c *cell) measure(b *testing.B, p *peer, script string, seconds int) {
	b.Helper()
	args := []string{"-n", "-c", strconv.Itoa(c.clients), "-j", strconv.Itoa(min(c.clients, 2)), "-T", strconv.Itoa(seconds)}
	if c.protocol == "pipelined" {
		args = append(args, "-M", "extended", "-f", script)
	} else {
		args = append(args, "-M", c.protocol, "-S")
	}
	before := cpu(b, p.pid)
	out := p.run(b, nil, "pgbench", args...)
	used := cpu(b, p.pid) - before
	m := result.FindStringSubmatch(out)
	if m == nil {
		b.Fatalf("pgbench did nothing, on a busy machine it needs more of BENCH_SECONDS: %s", out)
	}
	transactions, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	tps, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		b.Fatal(err)
	}
	c.tps[p.name] = append(c.tps[p.name], tps)
	c.cpu[p.name] = append(c.cpu[p.name], float64(used)/float64(time.Microsecond)/transactions)
}

// ratio is the median over the rounds: both peers of a round met the same machine.
func ratio(of, to []float64) float64 {
	var all []float64
	for i := range of {
		all = append(all, of[i]/to[i])
	}
	return median(all)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// report prints the matrix and reports what is made of it.
func report(b *testing.B, cells []*cell) {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "clients\tprotocol\tdirect tps\tPgBouncer tps\tPostern tps\t÷ PgBouncer\tµs CPU, PgBouncer\tPostern\t÷\taudit full ÷ none\t")
	var speed, work, audit []float64
	for _, c := range cells {
		speed = append(speed, ratio(c.tps[silent], c.tps[pgBouncer]))
		work = append(work, ratio(c.cpu[silent], c.cpu[pgBouncer]))
		audit = append(audit, ratio(c.tps[recording], c.tps[silent]))
		last := len(speed) - 1
		fmt.Fprintf(w, "%d\t%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t%.2f\t%.2f\t\n", c.clients, c.protocol,
			median(c.tps[direct]), median(c.tps[pgBouncer]), median(c.tps[silent]), speed[last],
			median(c.cpu[pgBouncer]), median(c.cpu[silent]), work[last], audit[last])
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fprintf(os.Stdout, "\n%s", text.String()); err != nil { // b.Log would cut it
		b.Fatal(err)
	}
	b.ReportMetric(median(speed), "tps-x")
	b.ReportMetric(slices.Min(speed), "tps-worst-x")
	b.ReportMetric(median(work), "cpu-x")
	b.ReportMetric(slices.Max(work), "cpu-worst-x")
	b.ReportMetric(median(audit), "audit-x")
	b.ReportMetric(slices.Min(audit), "audit-worst-x")
}
