#!/usr/bin/env bash
# Runs the benchmarks. Usage: tools/bench.sh
#
# Figures that depend on the machine are printed as ratios of the same run; see
# docs/performance.md for what they mean.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "== connect + SELECT 1 + close, against direct PostgreSQL, with certificates and with passwords, and on a replica"
go test -run '^$' -bench '^BenchmarkConnect(Password|Replica)?$' -benchtime "${BENCH_CONNECTS:-400}x" ./internal/agent

echo "== 500 people who connect once each; growth of the catalogs after 1,000 sessions"
go test -run '^$' -bench '^Benchmark(Crowd|Growth)$' -benchtime 1x -timeout 1h ./internal/agent

tools/pg/install.sh pgbouncer
echo "== the wire, beside PgBouncer; sizes: see internal/bench/doc.go"
go test -run '^$' -bench . -benchtime 1x -timeout 1h ./internal/bench

echo "== what recording adds to a transaction, from the frames to the log on disk"
go test -run '^$' -bench '^BenchmarkRecord$' -benchtime 50000x ./internal/agent

echo "== the parts"
go test -run '^$' -bench . -benchmem ./internal/access ./internal/pgwire ./internal/provision ./internal/audit ./internal/store
