package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/testenv"
)

// BenchmarkConnect measures connect + SELECT 1 + close through the gateway, as
// ratios to the same against PostgreSQL itself. Both sides of both use mutual
// TLS. The ways take turns, so that each meets the same machine.
//
//	off     provisioning is off
//	active  keep, the user has another session
//	each    keep, every session activates the account and its end releases it
//	drop    best_effort_drop, every session makes the account and its end drops it
//
// Each way comes twice in a row: after a pause, when the gateway has prepared
// for it, and once more at once (again), when it may not have.
func BenchmarkConnect(b *testing.B) {
	env := testenv.Start(b, testenv.Options{Process: true, Settings: map[string]string{"fsync": "on", "synchronous_commit": "on"}})
	direct := &way{name: "direct", cfg: directConfig(b, env)}
	ways := []*way{
		direct,
		{name: "off", cfg: offConfig(b, env)},
		{name: "active", cfg: personConfig(b, env, "active", "keep")},
		{name: "each", cfg: personConfig(b, env, "each", "keep")},
		{name: "drop", cfg: personConfig(b, env, "drop", "best_effort_drop")},
	}
	held := testenv.Connect(b, ways[2].cfg)
	defer testenv.Close(b, held)
	takeTurns(b, env, ways)
}

// takeTurns measures the ways until the benchmark has had enough, and reports
// ratios to the first of them, which connects as the database user direct. One
// session of the gateway's stays open meanwhile.
func takeTurns(b *testing.B, env *testenv.Env, ways []*way) {
	b.Helper()
	direct := ways[0]
	// The end of one session must not be in the way of the next.
	dba := env.Server.Superuser(b, "postgres")
	ended := func() bool {
		var left int
		if err := dba.QueryRow(b.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'direct'").Scan(&left); err != nil {
			b.Fatal(err)
		}
		return left == 0 && env.Sessions(b) == 1
	}
	for b.Loop() {
		for _, w := range ways {
			// Nor what the gateway does after it, which is over long before this is.
			time.Sleep(backgroundWork)
			w.paused = append(w.paused, w.once(b))
			testenv.Eventually(b, "the session has ended", ended)
			w.again = append(w.again, w.once(b))
			testenv.Eventually(b, "the session has ended", ended)
		}
	}
	b.ReportMetric(0, "ns/op") // the sum over all ways says nothing
	for _, p := range []int{50, 95} {
		b.ReportMetric(percentile(direct.paused, p).Seconds()*1e3, fmt.Sprintf("direct-p%d-ms", p))
		for _, w := range ways[1:] {
			b.ReportMetric(float64(percentile(w.paused, p))/float64(percentile(direct.paused, p)), fmt.Sprintf("%s-p%d-x", w.name, p))
			b.ReportMetric(float64(percentile(w.again, p))/float64(percentile(direct.again, p)), fmt.Sprintf("%s-again-p%d-x", w.name, p))
		}
	}
}

// backgroundWork is longer than the gateway takes to prepare for the next session.
const backgroundWork = 10 * time.Millisecond

// way is one way to connect.
type way struct {
	name          string
	cfg           *pgx.ConnConfig
	paused, again []time.Duration
}

func (w *way) once(b *testing.B) time.Duration {
	begin := time.Now()
	conn, err := pgx.ConnectConfig(b.Context(), w.cfg)
	if err != nil {
		b.Fatalf("%s: %v", w.name, err)
	}
	if _, err := conn.PgConn().Exec(b.Context(), "SELECT 1").ReadAll(); err != nil {
		b.Fatalf("%s: %v", w.name, err)
	}
	if err := conn.Close(b.Context()); err != nil {
		b.Fatalf("%s: %v", w.name, err)
	}
	return time.Since(begin)
}

func percentile(took []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[(len(sorted)-1)*p/100]
}

// directConfig connects to PostgreSQL with a client certificate of an authority
// that the server is told to trust as well.
func directConfig(b *testing.B, env *testenv.Env) *pgx.ConnConfig {
	authority, err := pgtest.NewAuthority("benchmark")
	if err != nil {
		b.Fatal(err)
	}
	env.Server.Exec(b, "CREATE ROLE direct LOGIN")
	return env.Around(b, authority, "direct")
}

// offConfig connects as a database user that exists, without provisioning.
func offConfig(b *testing.B, env *testenv.Env) *pgx.ConnConfig {
	env.Server.Exec(b, "CREATE ROLE shared LOGIN")
	env.Apply(b, `{kind: role, version: v7, metadata: {name: off}, spec: {options: {create_db_user_mode: "off"},
		allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: [shared]}}}`)
	env.AddUser(b, "off", []string{"off"}, nil)
	return env.As(b, "off").Direct(b, identity.Route{Database: testenv.Database, DatabaseUser: "shared"})
}

// personConfig connects as a person whose account is provisioned.
func personConfig(b *testing.B, env *testenv.Env, name, mode string) *pgx.ConnConfig {
	return env.Hire(b, name, mode, name+"_reader").Direct(b, identity.Route{Database: testenv.Database})
}
