package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// rowSize is the length of a row that COPY moves, with its line feed.
const rowSize = 101

// BenchmarkCopy moves a table out and in through every peer in turn.
func BenchmarkCopy(b *testing.B) {
	megabytes, rounds := setting(b, "COPY_MB", 256), setting(b, "ROUNDS", 3)
	_, peers := startPeers(b)
	around, bouncer, gateway := peers[0], peers[1], peers[2]
	rows := megabytes * 1_000_000 / rowSize
	around.run(b, nil, "psql", "-qX", "-c", fmt.Sprintf("CREATE UNLOGGED TABLE source AS SELECT repeat('x', %d) FROM generate_series(1, %d)", rowSize-1, rows),
		"-c", "CREATE UNLOGGED TABLE sink (line text)")
	file := filepath.Join(b.TempDir(), "rows")
	around.run(b, nil, "psql", "-qX", "-o", file, "-c", "COPY source TO STDOUT")
	took, used := map[string][]float64{}, map[string][]float64{}
	measure := func(p *peer, way string, move func()) {
		begin, before := time.Now(), cpu(b, p.pid)
		move()
		took[way+p.name] = append(took[way+p.name], time.Since(begin).Seconds())
		used[way+p.name] = append(used[way+p.name], (cpu(b, p.pid) - before).Seconds())
	}
	for b.Loop() {
		for range rounds {
			for _, p := range peers[:3] {
				measure(p, "out", func() { p.run(b, nil, "psql", "-qX", "-o", "/dev/null", "-c", "COPY source TO STDOUT") })
				around.run(b, nil, "psql", "-qX", "-c", "TRUNCATE sink")
				measure(p, "in", func() {
					in, err := os.Open(file)
					if err != nil {
						b.Fatal(err)
					}
					defer in.Close()
					p.run(b, in, "psql", "-qX", "-c", "COPY sink FROM STDIN")
				})
			}
		}
	}
	b.ReportMetric(0, "ns/op") // how long it took says nothing
	size := float64(rows*rowSize) / 1e9
	for _, way := range []string{"out", "in"} {
		b.ReportMetric(size*1000/median(took[way+around.name]), way+"-direct-MB/s")
		b.ReportMetric(size*1000/median(took[way+gateway.name]), way+"-MB/s")
		b.ReportMetric(ratio(took[way+bouncer.name], took[way+gateway.name]), way+"-x")
		b.ReportMetric(median(used[way+gateway.name])/size, way+"-cpu-s/GB")
		b.ReportMetric(ratio(used[way+gateway.name], used[way+bouncer.name]), way+"-cpu-x")
	}
}
