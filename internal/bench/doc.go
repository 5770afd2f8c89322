// Package bench measures the data path of the whole product beside PgBouncer
// and PostgreSQL itself: same machine, same run, the peers taking turns. It
// holds benchmarks only; tools/bench.sh runs them, and docs/performance.md says
// what came out.
//
// Postern runs as a process of its own, PgBouncer in session mode, and every
// connection is mutual TLS. Sizes come from the environment:
//
//	BENCH_SECONDS    of each pgbench run, default 2
//	BENCH_ROUNDS     how often each is repeated, default 3
//	BENCH_COPY_MB    of each COPY, default 256
//	BENCH_SESSIONS   idle ones, default 1000
//	BENCH_CYCLES     of connecting and disconnecting, default 5000
//	BENCH_VALUE_MB   of one value, default 500
package bench
