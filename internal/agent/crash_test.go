package agent_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/testenv"
)

// TestKilledGatewayIsRepairedByTheNext: kill -9 with ten sessions open; within
// five seconds of the next start no account can log in or holds a role.
func TestKilledGatewayIsRepairedByTheNext(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{Process: true})
	env.DBRole(t, "reader", "writer")
	env.Apply(t, testenv.Role("keepers", "keep", "reader", "writer"), testenv.Role("droppers", "best_effort_drop", "reader"))
	var conns []*pgx.Conn
	for i := range 5 {
		name, role := fmt.Sprintf("user%d", i), []string{"keepers", "droppers"}[i%2]
		env.AddUser(t, name, []string{role}, nil)
		person := env.As(t, name)
		conns = append(conns, person.Connect(t, "example", "postgres"), person.Connect(t, "example", "postgres"))
	}
	exec(t, conns[0], "BEGIN", "CREATE TEMPORARY TABLE scratch (n int)")
	for _, conn := range conns[1:4] { // busy, so that PostgreSQL does not look at its client
		go func() { _, _ = conn.Exec(context.Background(), "SELECT pg_sleep(600)") }()
	}
	for i := range 2 {
		env.AwaitQuery(t, fmt.Sprintf("user%d", i), "pg_sleep")
	}
	if got := env.Sessions(t); got != 10 {
		t.Fatalf("%d sessions are open", got)
	}
	env.Crash(t)
	for i := range 5 {
		if got := env.Account(t, fmt.Sprintf("user%d", i)); !got.Login {
			t.Fatalf("user%d was released by a gateway that was killed: %+v", i, got)
		}
	}
	env.Restart(t)
	testenv.Within(t, 5*time.Second, "every account is released", func() bool {
		for i := range 5 {
			got := env.Account(t, fmt.Sprintf("user%d", i))
			if got.Login || got.Exists != (i%2 == 0) || got.Exists && len(got.Roles) != 1 {
				return false
			}
		}
		return true
	})
	if got := env.AwaitAudit(t, 5, of("", "TDB09I")); len(got) != 5 {
		t.Errorf("%d repairs on record", len(got))
	}
	again := env.As(t, "user0").Connect(t, "example", "postgres")
	if got := text(t, again, "SELECT current_user"); got != "user0" {
		t.Errorf("current_user is %q", got)
	}
}

// TestPostgreSQLRestartsUnderneath: its sessions end, and what they leave behind
// goes as soon as the server is back.
func TestPostgreSQLRestartsUnderneath(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	alice := env.Hire(t, "alice", "keep", "reader")
	conn := alice.Connect(t, "example", "postgres")
	env.Server.Kill(t)
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session outlived its server")
	}
	env.Server.Restart(t)
	// The activation itself may be among what the server has forgotten.
	testenv.Within(t, 10*time.Second, "the account is released", func() bool {
		account := env.Account(t, "alice")
		return !account.Login && len(account.Roles) <= 1
	})
	alice.Connect(t, "example", "postgres")
}
