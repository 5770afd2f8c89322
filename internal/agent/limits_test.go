package agent_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/ca"
	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// awaitEnd waits until the gateway ends the session and returns what it said.
func awaitEnd(t *testing.T, conn *pgx.Conn) *pgconn.PgError {
	t.Helper()
	_, err := conn.WaitForNotification(t.Context())
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("the session ended with %v", err)
	}
	return pg
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, `kind: role
version: v7
metadata: {name: sleepers}
spec:
  options: {create_db_user_mode: keep, client_idle_timeout: 1s}
  allow: {db_labels: {"*": "*"}, db_names: ["*"]}
`)
	env.AddUser(t, "sleeper", []string{"sleepers"}, nil)
	conn := env.As(t, "sleeper").Connect(t, "example", "postgres")
	if got := awaitEnd(t, conn); got.Code != "57P05" || !contains(got.Message, "idle timeout of 1s") {
		t.Errorf("the session ended with %s %s", got.Code, got.Message)
	}
	event := env.AwaitAudit(t, 1, of("sleeper", "T3006I"))[0]
	if event.Text("event") != "client.disconnect" || !contains(event.Text("reason"), "idle timeout") {
		t.Errorf("on record as %v", event)
	}
	awaitAccount(t, env, "sleeper", testenv.Account{Exists: true, Roles: []string{testenv.Group}})
}

// TestSessionEndsWithTheLogin where policy says so.
func TestSessionEndsWithTheLogin(t *testing.T) {
	t.Parallel()
	env := testenv.Shared(t)
	env.Apply(t, `kind: role
version: v7
metadata: {name: brief}
spec:
  options: {create_db_user_mode: best_effort_drop, disconnect_expired_cert: true}
  allow: {db_labels: {"*": "*"}, db_names: ["*"]}
`)
	env.AddUser(t, "brief", []string{"brief"}, nil)
	route := identity.Route{Database: "example"}
	id := identity.Identity{User: "brief", Cluster: env.Cluster, Roles: []string{"brief"}, Route: route}
	// It was issued an hour ago, for an hour and three seconds.
	hourAgo := env.Authority(t, ca.User, func() time.Time { return time.Now().Add(3*time.Second - time.Hour) })
	conn := testenv.Connect(t, env.As(t, "brief").DirectWith(t, route, forge(t, hourAgo, id)))
	if got := awaitEnd(t, conn); got.Code != "57P01" || !contains(got.Message, "client certificate expired at") {
		t.Errorf("the session ended with %s %s", got.Code, got.Message)
	}
	awaitAccount(t, env, "brief", testenv.Account{})
}
