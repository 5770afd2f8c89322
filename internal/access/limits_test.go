package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

func TestSection2_9Limits(t *testing.T) {
	t.Parallel()
	limits := func(t *testing.T, text string) access.Limits {
		t.Helper()
		in := input(parse(t, text))
		var have []string
		for _, r := range in.Roles {
			have = append(have, r.GetName())
		}
		d := access.NewPolicy(in).Decide(request(db(""), "postgres", "app", have...))
		if d.Err() != nil {
			t.Fatal(d.Err())
		}
		return d.Limits
	}
	defaults := access.Limits{
		MaxSessionTTL: 30 * time.Hour, LockMode: resource.LockBestEffort, Record: resource.RecordFull,
		ParallelSets: resource.ParallelSibling, OnMissingGrant: resource.MissingGrantRefuse,
	}
	for _, tt := range []struct {
		name, text string
		change     func(*access.Limits)
	}{
		{"defaults", role("a", all), func(*access.Limits) {}},
		{"max_session_ttl is the smallest", role("a", "options: {max_session_ttl: 8h}, "+all) + role("b", "options: {max_session_ttl: 4h}") + role("c", ""), func(l *access.Limits) { l.MaxSessionTTL = 4 * time.Hour }},
		{"a role may allow more than the default", role("a", "options: {max_session_ttl: 100h}, "+all), func(l *access.Limits) { l.MaxSessionTTL = 100 * time.Hour }},
		{"the default of another role limits", role("a", "options: {max_session_ttl: 100h}, "+all) + role("b", ""), func(l *access.Limits) {}},
		{"max_connections is the smallest but zero", role("a", "options: {max_connections: 0}, "+all) + role("b", "options: {max_connections: 7}") + role("c", "options: {max_connections: 9}"), func(l *access.Limits) { l.MaxConnections = 7 }},
		{"idle timeout of the cluster", role("a", all) + "kind: cluster_networking_config\nspec: {client_idle_timeout: 10m}", func(l *access.Limits) { l.ClientIdleTimeout = 10 * time.Minute }},
		{"idle timeout of a role", role("a", "options: {client_idle_timeout: 5m}, "+all) + role("b", "options: {client_idle_timeout: never}") + "kind: cluster_networking_config\nspec: {client_idle_timeout: 10m}", func(l *access.Limits) { l.ClientIdleTimeout = 5 * time.Minute }},
		{"disconnect_expired_cert of the cluster", role("a", all) + "kind: cluster_auth_preference\nspec: {disconnect_expired_cert: true}", func(l *access.Limits) { l.DisconnectExpiredCert = true }},
		{"disconnect_expired_cert of a role", role("a", all) + role("b", "options: {disconnect_expired_cert: true}"), func(l *access.Limits) { l.DisconnectExpiredCert = true }},
		{"lock strict", role("a", "options: {lock: best_effort}, "+all) + role("b", "options: {lock: strict}"), func(l *access.Limits) { l.LockMode = resource.LockStrict }},
		{"lock of the cluster", role("a", all) + "kind: cluster_auth_preference\nspec: {locking_mode: strict}", func(l *access.Limits) { l.LockMode = resource.LockStrict }},
		{"best effort of a role before the cluster", role("a", "options: {lock: best_effort}, "+all) + "kind: cluster_auth_preference\nspec: {locking_mode: strict}", func(*access.Limits) {}},
		{"recording is the most asked for", role("a", "options: {record_session: {db: none}}, "+all) + role("b", "options: {record_session: {db: tag}}"), func(l *access.Limits) { l.Record = resource.RecordTag }},
		{"recording off", role("a", "options: {record_session: {db: none}}, "+all) + role("b", "options: {record_session: {desktop: true}}"), func(l *access.Limits) { l.Record = resource.RecordNone }},
		{"parallel sets", role("a", "options: {parallel_sets: sibling}, "+all) + role("b", "options: {parallel_sets: refuse}"), func(l *access.Limits) { l.ParallelSets = resource.ParallelRefuse }},
		{"missing grants", role("a", "options: {on_missing_grant: warn}, "+all), func(l *access.Limits) { l.OnMissingGrant = resource.MissingGrantWarn }},
		{"missing grants refuse", role("a", "options: {on_missing_grant: warn}, "+all) + role("b", "options: {on_missing_grant: refuse}"), func(*access.Limits) {}},
		{"replication", role("a", "options: {allow_replication: true}, "+all), func(l *access.Limits) { l.AllowReplication = true }},
		{"replication of a role that does not grant", role("a", "options: {allow_replication: true}") + role("b", all), func(*access.Limits) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := defaults
			tt.change(&want)
			if diff := cmp.Diff(want, limits(t, tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSection2_9CertificateScope(t *testing.T) {
	t.Parallel()
	p := policy(t, role("long", `options: {max_session_ttl: 10h}, allow: {db_users: [a, b], db_names: ["*"]}, deny: {db_users: [b]}`)+
		role("short", `options: {max_session_ttl: 1h}, allow: {db_users: [c], db_names: [x]}`)+role("none", "")+role("broken", `deny: {db_users: ["{{external.x}}"]}`))
	for _, tt := range []struct {
		roles        string
		ttl          time.Duration
		users, names string
		kind         fault.Kind
		text         string
	}{
		{"long short", time.Hour, "a c", "*", 0, ""},
		{"long short", 2 * time.Hour, "a", "*", 0, ""},
		{"long short", 20 * time.Hour, "", "", fault.Denied, "no role allows a certificate of 20h"},
		{"none", time.Hour, "", "", fault.NotFound, "no database users and names"},
		{"unknown", time.Hour, "", "", fault.Denied, "access to db denied"},
		{"long broken", time.Hour, "", "", fault.Denied, "access to db denied"},
	} {
		users, names, err := p.Bind(access.Request{User: "alice", Roles: words(tt.roles)}).CertificateScope(tt.ttl)
		if tt.text != "" {
			if err == nil || fault.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s %v: got %v", tt.roles, tt.ttl, err)
			}
			continue
		}
		if err != nil || strings.Join(users, " ") != tt.users || strings.Join(names, " ") != tt.names {
			t.Errorf("%s %v: got %v %v %v", tt.roles, tt.ttl, users, names, err)
		}
	}
}

func TestSection2_9Locks(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		target string
		hit    bool
	}{
		{"{user: alice}", true},
		{"{user: bob}", false},
		{"{role: a}", true},
		{"{role: b}", false},
		{"{login: postgres}", true},
		{"{login: x}", false},
		{"{database: example}", true},
		{"{server_id: s1}", true},
		{"{server_id: s2}", false},
		{"{user: alice, role: b}", false},
		{"{user: alice, mfa_device: d}", true},
		{"{mfa_device: d}", false},
		{"{user: alice}, expires: 2025-01-01", false},
		{"{user: alice}, expires: 2027-01-01", true},
	} {
		in := input(parse(t, role("a", all)+"kind: lock\nmetadata: {name: l}\nspec: {message: lost laptop, target: "+tt.target+"}"))
		in.Now = func() time.Time { return now }
		q := request(db(""), "postgres", "app", "a")
		q.ServerID = "s1"
		err := access.NewPolicy(in).Decide(q).Err()
		if (err != nil) != tt.hit {
			t.Errorf("%s: got %v", tt.target, err)
		}
		if err != nil && err.Error() != "a lock is in force: lost laptop" {
			t.Errorf("%s: got %v", tt.target, err)
		}
	}
	p := policy(t, role("a", all)+"kind: lock\nmetadata: {name: l}\nspec: {target: {user: remote-alice-root}}")
	q := request(db(""), "postgres", "app", "a")
	if err := p.Decide(q).Err(); err != nil {
		t.Errorf("the lock of a remote user hits a local one: %v", err)
	}
	q.RemoteCluster = "root"
	if err := p.Decide(q).Err(); err == nil || err.Error() != "a lock is in force" {
		t.Errorf("remote user: got %v", err)
	}
}
