package agent_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/audit"
	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestSessionOnRecord holds the events of a session: names, codes, fields, order.
func TestSessionOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	scribe := env.Hire(t, "scribe", "keep", "scribe_reader")
	cfg := scribe.Proxy(t, identity.Route{Database: "example", DatabaseName: "postgres"})
	cfg.RuntimeParams["application_name"] = "recorder"
	conn := testenv.Connect(t, cfg)
	pg, ctx := conn.PgConn(), t.Context()
	pid := pg.PID()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := pg.Exec(ctx, "SELECT 'simple'").ReadAll()
	check(err)
	_, err = pg.Prepare(ctx, "named", "SELECT $1::text, $2::int4", nil)
	check(err)
	check(pg.ExecPrepared(ctx, "named", [][]byte{[]byte("value"), {0, 0, 0, 7}}, []int16{0, 1}, nil).Read().Err)
	check(pg.Deallocate(ctx, "named"))
	_, err = pg.Exec(ctx, "SELECT missing").ReadAll()
	if err == nil {
		t.Fatal("a query that fails did not")
	}
	testenv.Close(t, conn)
	env.AwaitAudit(t, 1, of("scribe", "TDB01I"))

	var got []string
	sid := ""
	for i, e := range slices.DeleteFunc(env.Audit(t, of("scribe")), func(e testenv.Event) bool { return e.Text("sid") == "" }) {
		if i == 0 {
			sid = e.Text("sid")
		}
		checkCommon(t, e, i, sid)
		got = append(got, summary(e))
	}
	want := []string{
		"db.session.authorize TPA01I",
		"db.user.create TDB08I success=true username=scribe",
		fmt.Sprintf("db.session.start TDB00I pid=%d success=true user_agent=recorder", pid),
		"db.session.query TDB02I db_query=SELECT 'simple' success=true",
		"db.session.result TDB10I affected_records=1 command_tags=[SELECT 1] outcome=done request=query request_ei=3 success=true tx_status=I",
		"db.session.postgres.statements.parse TPG00I query=SELECT $1::text, $2::int4 statement_name=named",
		"db.session.postgres.statements.bind TPG01I parameters=[value 7] portal_name= statement_name=named",
		"db.session.postgres.statements.execute TPG02I portal_name=",
		"db.session.result TDB10I affected_records=1 bind_ei=6 command_tags=[SELECT 1] outcome=done parse_ei=5 request=execute request_ei=7 statement_name=named success=true tx_status=I",
		"db.session.postgres.statements.close TPG03I statement_name=named",
		"db.session.query TDB02I db_query=SELECT missing success=true",
		`db.session.result TDB10I affected_records=0 message=column "missing" does not exist outcome=failed request=query request_ei=10 sqlstate=42703 success=false tx_status=I`,
		"db.user.deactivate TDB09I delete=false success=true username=scribe",
		"db.session.end TDB01I",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if _, err := audit.Verify(t.Context(), env.AuditDir()); err != nil {
		t.Error(err)
	}
}

// checkCommon checks what every event of the session carries.
func checkCommon(t *testing.T, e testenv.Event, index int, sid string) {
	t.Helper()
	want := map[string]any{
		"user": "scribe", "user_kind": 1.0, "cluster_name": testenv.Cluster, "ei": float64(index), "sid": sid,
		"db_service": "example", "db_protocol": "postgres", "db_name": "postgres", "db_user": "scribe", "db_type": "self-hosted",
		"db_roles": []any{"scribe_reader"},
	}
	for key, value := range want {
		if diff := cmp.Diff(value, e[key]); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", e["event"], key, diff)
		}
	}
	for _, key := range []string{"time", "uid", "addr.remote", "server_id", "db_uri", "hash"} {
		if e.Text(key) == "" {
			t.Errorf("%s has no %s", e["event"], key)
		}
	}
}

// summary is the event without what every event has and what differs each time.
func summary(e testenv.Event) string {
	text := e.Text("event") + " " + e.Text("code")
	for _, key := range slices.Sorted(maps.Keys(e)) {
		switch key {
		case "event", "code", "time", "uid", "hash", "prev", "seq", "ei", "sid", "cluster_name", "user", "user_kind", "addr.remote", "server_id",
			"session_start", "session_stop", "duration_ms", "statements":
		default:
			if !strings.HasPrefix(key, "db_") || key == "db_query" {
				text += fmt.Sprintf(" %s=%v", key, e[key])
			}
		}
	}
	return text
}

// TestRefusedSessionOnRecord with the reason, as the user read it.
func TestRefusedSessionOnRecord(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.AddUser(t, "outcast", nil, nil)
	outcast := env.As(t, "outcast")
	stale := identity.Identity{User: "outcast", Cluster: env.Cluster, Route: identity.Route{Database: "example"}}
	refusal := testenv.Refused(t, outcast.DirectWith(t, identity.Route{Database: "example"}, forge(t, env.Authority(t, ca.User, time.Now), stale)))
	event := env.AwaitAudit(t, 1, of("outcast", "TDB00W"))[0]
	if event.Text("message") != refusal.Message || event["success"] != false || event.Text("db_service") != "example" {
		t.Errorf("the user read %q, the event: %v", refusal.Message, event)
	}
}

// TestMalformedMessageEndsTheSession and is on record.
func TestMalformedMessageEndsTheSession(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	conn := env.Hire(t, "clumsy", "keep", "clumsy_reader").Connect(t, "example", "postgres")
	raw := conn.PgConn().Conn()
	if _, err := raw.Write([]byte{'P', 0, 0, 0, 6, 'x', 'y'}); err != nil { // a Parse without ends of text
		t.Fatal(err)
	}
	_, err := conn.PgConn().ReceiveMessage(t.Context())
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "08P01" {
		t.Errorf("the session ended with %v", err)
	}
	env.AwaitAudit(t, 1, of("clumsy", "TDB06I"))
	awaitAccount(t, env, "clumsy", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}
