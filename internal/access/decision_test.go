package access_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postern-db/postern/internal/access"
	"github.com/postern-db/postern/internal/resource"
)

// TestDecisionJSON holds the keys that scripts rely on.
func TestDecisionJSON(t *testing.T) {
	t.Parallel()
	p := policy(t, role("a", provision("keep", `db_roles: [reader], db_permissions: [{match: {object_kind: table}, permissions: [SELECT]}]`)+", deny: {db_permissions: [{match: {schema: secret}, permissions: ['*']}]}"))
	got, err := json.Marshal(p.Decide(request(db(""), "alice", "app", "a")))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"outcome":"allowed","mode":"keep","db_user":"alice","db_roles":["reader"],` +
		`"db_permissions":[{"effect":"allow","role":"a","match":{"object_kind":["table"]},"permissions":["SELECT"]},` +
		`{"effect":"deny","role":"a","match":{"schema":["secret"]},"permissions":["*"]}],` +
		`"limits":{"max_session_ttl":"30h","max_connections":0,"client_idle_timeout":"0s","disconnect_expired_cert":false,"lock":"best_effort","record":"full","parallel_sets":"sibling","on_missing_grant":"refuse","allow_replication":false},` +
		`"reasons":[{"effect":"allow","rule":"access","role":"a","text":"role a grants access"},{"effect":"allow","rule":"db_roles","role":"a","text":"db role reader comes from role a"},` +
		`{"effect":"allow","rule":"create_db_user_mode","role":"a","text":"role a creates database users: keep"},{"effect":"limit","rule":"limits","role":"a","text":"certificates and sessions live at most 30h"}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, err = json.Marshal(p.Decide(request(db(""), "bob", "app", "a")))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"outcome":"denied"`, `"db_roles":[]`, `"db_permissions":[]`, `"error":"please use`, `"hint":"connect with`} {
		if !strings.Contains(string(got), part) {
			t.Errorf("%s is missing from %s", part, got)
		}
	}
	if access.Outcome(7).String() != "outcome(7)" || access.MFARequired.String() != "mfa_required" {
		t.Error("Outcome.String")
	}
}

func TestOverview(t *testing.T) {
	t.Parallel()
	p := policy(t, role("dev", `allow: {db_labels: {env: dev}, db_names: [app, two], db_users: [b, a]}, deny: {db_users: [root]}`)+
		role("any", all)+role("nob", `deny: {db_users: [b], db_names: ["*"]}`)+role("noprod", `deny: {db_labels: {env: prod}}`)+
		role("auto", provision("keep", `db_roles: [reader, dba]`))+role("nodba", `deny: {db_roles: [dba]}`)+role("broken", `deny: {db_names: ["{{"]}`))
	off, keep := resource.ModeOff, resource.ModeKeep
	for _, tt := range []struct {
		name, roles, labels string
		want                access.Overview
	}{
		{"lists", "dev", "env=dev", access.Overview{Visible: true, Mode: off, AllowedUsers: words("a b"), DeniedUsers: words("root"), AllowedNames: words("app two")}},
		{"wildcard with exceptions", "dev any", "env=prod", access.Overview{Visible: true, Mode: off, AllowedUsers: words("*"), DeniedUsers: words("root"), AllowedNames: words("*")}},
		{"denied values are gone", "dev nob", "env=dev", access.Overview{Visible: true, Mode: off, AllowedUsers: words("a"), DeniedUsers: words("b root"), DeniedNames: words("*")}},
		{"not selected", "dev", "env=prod", access.Overview{Mode: off}},
		{"denied", "any noprod", "env=prod", access.Overview{Mode: off}},
		{"deny is broken", "any broken", "", access.Overview{Mode: off}},
		{"unknown role", "any nonsense", "", access.Overview{Mode: off}},
		{"provisioning", "auto nodba", "", access.Overview{Visible: true, Mode: keep, AllowedUsers: words("alice"), AllowedNames: words("*"), DatabaseRoles: words("reader")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := p.Overview(access.Request{User: "alice", Roles: words(tt.roles), Database: db(tt.labels)})
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	cloud := db("")
	cloud.Spec.GCP.ProjectID = "p"
	got := p.Overview(access.Request{User: "alice", Roles: words("auto"), Database: cloud})
	if !got.Visible || len(got.AllowedUsers) != 0 {
		t.Errorf("database that cannot provision: %+v", got)
	}
}
