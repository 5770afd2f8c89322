package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

const (
	crowd = 500 // people who connect once each
	doors = 16  // of them at once
	// cycles are sessions of one person, one after the other.
	cycles = 1000
)

// crowdRoles are the two ways to let the crowd in: to a database user that they
// share and that exists, and each to an account made for the session.
const crowdRoles = `{kind: role, version: v7, metadata: {name: crowd_off}, spec: {options: {create_db_user_mode: "off"},
  allow: {db_labels: {"*": "*"}, db_names: ["*"], db_users: [shared]}}}
---
{kind: role, version: v7, metadata: {name: crowd_keep}, spec: {options: {create_db_user_mode: keep},
  allow: {db_labels: {"*": "*"}, db_names: ["*"], db_roles: [reader]}}}`

// BenchmarkCrowd has 500 different people connect once each, as fast as 16 can at
// once, with provisioning and without. None may fail. keep-x is how much of the throughput
// without provisioning is left with it: accounts are made (new) and used again
// (again), and all of them released.
func BenchmarkCrowd(b *testing.B) {
	env := testenv.Start(b, testenv.Options{Process: true, Settings: map[string]string{"fsync": "on", "synchronous_commit": "on"}})
	env.DBRole(b, "reader")
	env.Server.Exec(b, "CREATE ROLE shared LOGIN")
	env.Apply(b, crowdRoles)
	off, keep := crowdOf(b, env, "off", "shared"), crowdOf(b, env, "keep", "")
	rush(b, env, off[:doors]) // caches of PostgreSQL, warm connections
	var without, with time.Duration
	for b.Loop() {
		without = rush(b, env, off)
		with = rush(b, env, keep)
		b.ReportMetric(without.Seconds()/with.Seconds(), "keep-new-x")
		without = rush(b, env, off)
		with = rush(b, env, keep)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(crowd/without.Seconds(), "off-conn/s")
	b.ReportMetric(crowd/with.Seconds(), "keep-conn/s")
	b.ReportMetric(without.Seconds()/with.Seconds(), "keep-again-x")
	if left := text1(b, env, `SELECT count(*)::text FROM pg_roles WHERE rolname ~ '^keep_' AND rolcanlogin`); left != "0" {
		b.Errorf("%s accounts can still log in", left)
	}
}

// crowdOf makes users with a role of their kind, and how each connects.
func crowdOf(b *testing.B, env *testenv.Env, kind, databaseUser string) (all []*pgx.ConnConfig) {
	var documents []string
	authority := env.Authority(b, ca.User, time.Now)
	someone := env.As(b, "opener")
	if kind == "off" {
		env.AddUser(b, "opener", []string{"crowd_off"}, nil)
	}
	for i := range crowd {
		name := fmt.Sprintf("%s_%d", kind, i)
		documents = append(documents, fmt.Sprintf("{kind: user, version: v2, metadata: {name: %s}, spec: {roles: [crowd_%s]}}", name, kind))
		route := identity.Route{Database: testenv.Database, DatabaseName: "postgres", DatabaseUser: databaseUser}
		cert := forge(b, authority, identity.Identity{User: name, Cluster: env.Cluster, Roles: []string{"crowd_" + kind}, Route: route})
		cfg := someone.DirectWith(b, route, cert)
		if databaseUser == "" {
			cfg.User = name
		}
		all = append(all, cfg)
	}
	for chunk := range slices.Chunk(documents, 100) { // the store takes so many at once
		env.Apply(b, chunk...)
	}
	return all
}

// rush connects everybody, and returns how long that took once all had left.
func rush(b *testing.B, env *testenv.Env, all []*pgx.ConnConfig) time.Duration {
	begin := time.Now()
	var group errgroup.Group
	group.SetLimit(doors)
	for _, cfg := range all {
		group.Go(func() error {
			conn, err := pgx.ConnectConfig(b.Context(), cfg)
			if err != nil {
				return err
			}
			if _, err := conn.PgConn().Exec(b.Context(), "SELECT 1").ReadAll(); err != nil {
				return err
			}
			return conn.Close(b.Context())
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	testenv.Eventually(b, "all sessions have ended", func() bool { return env.Sessions(b) == 0 })
	return took
}

// text1 returns the one value of a query by the DBA.
func text1(b *testing.B, env *testenv.Env, sql string) (value string) {
	conn := env.Server.Superuser(b, "postgres")
	defer conn.Close(b.Context())
	if err := conn.QueryRow(b.Context(), sql).Scan(&value); err != nil {
		b.Fatal(err)
	}
	return value
}

// BenchmarkGrowth prints by how many kB the catalogs have grown after 1,000
// sessions of one person, beyond what VACUUM gives back for use.
func BenchmarkGrowth(b *testing.B) {
	for _, mode := range []string{"keep", "best_effort_drop"} {
		b.Run(mode, func(b *testing.B) {
			env := testenv.Start(b, testenv.Options{Process: true})
			env.DBRole(b, "reader")
			env.Apply(b, testenv.Role("worker", mode, "reader"))
			env.AddUser(b, "worker", []string{"worker"}, nil)
			cfg := env.As(b, "worker").Direct(b, identity.Route{Database: testenv.Database})
			catalogs := []string{"pg_authid", "pg_auth_members", "pg_class", "pg_shdescription"}
			for b.Loop() {
				before := sizes(b, env, catalogs)
				for range cycles {
					rush(b, env, []*pgx.ConnConfig{cfg})
				}
				after := sizes(b, env, catalogs)
				for i, name := range catalogs {
					b.ReportMetric(float64(after[i]-before[i])/1024, name+"-kB")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// sizes vacuums the catalogs and returns their sizes in bytes, with indexes.
func sizes(b *testing.B, env *testenv.Env, catalogs []string) (all []int64) {
	conn := env.Server.Superuser(b, "postgres")
	defer conn.Close(b.Context())
	for _, name := range catalogs {
		var size int64
		if _, err := conn.Exec(b.Context(), "VACUUM "+name); err != nil {
			b.Fatal(err)
		}
		if err := conn.QueryRow(b.Context(), "SELECT pg_total_relation_size($1::regclass)", name).Scan(&size); err != nil {
			b.Fatal(err)
		}
		all = append(all, size)
	}
	return all
}
