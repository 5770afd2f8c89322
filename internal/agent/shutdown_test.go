package agent_test

import (
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// TestShutdownEndsSessionsProperly: each client reads why, statements that run are
// cancelled, and every account is released before the gateway has ended.
func TestShutdownEndsSessionsProperly(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	idle := env.Hire(t, "idle", "keep", "reader").Connect(t, "example", "postgres")
	inside := env.Hire(t, "inside", "keep", "writer").Connect(t, "example", "postgres")
	exec(t, inside, "BEGIN")
	busy := env.Hire(t, "busy", "best_effort_drop", "sleeper").Connect(t, "example", "postgres")
	var slept error
	var sleeping sync.WaitGroup
	sleeping.Go(func() { _, slept = busy.Exec(t.Context(), "SELECT pg_sleep(600)") })
	env.AwaitQuery(t, "busy", "pg_sleep")

	began := time.Now()
	env.Stop(t)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	sleeping.Wait()
	for name, err := range map[string]error{"idle": awaitEnd(t, idle), "inside": awaitEnd(t, inside), "busy": slept} {
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "57P01" || !contains(pg.Message, "shutting down") {
			t.Errorf("%s: the session ended with %v", name, err)
		}
	}
	released := testenv.Account{Exists: true, Roles: []string{testenv.Group}}
	for name, want := range map[string]testenv.Account{"idle": released, "inside": released, "busy": {}} {
		if got := env.Account(t, name); got.Exists != want.Exists || got.Login || len(got.Roles) != len(want.Roles) {
			t.Errorf("%s: the account is %+v", name, got)
		}
	}
	if events := env.Audit(t, of("", "TDB01I")); len(events) != 3 {
		t.Errorf("%d sessions ended on record", len(events))
	}
}

// TestShutdownWaitsForNobodyUnknown: a peer that is silent reads why it is hung up on,
// without the time that it would have had.
func TestShutdownWaitsForNobodyUnknown(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{NoServer: true})
	conn, err := (&tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{"postgresql"},
	}}).DialContext(t.Context(), "tcp", env.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := make([]byte, 1)
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err != nil { // SSLRequest
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
		t.Fatalf("answered %q, %v", answer, err)
	}
	env.Stop(t)
	if last, err := io.ReadAll(conn); err != nil || !contains(string(last), "57P01", "shutting down") {
		t.Errorf("the last words are %q, %v", last, err)
	}
}

// TestRestartKeepsEverything: people go on with the login they have.
func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	alice := env.Hire(t, "alice", "keep", "reader")
	cfg := alice.Proxy(t, identity.Route{Database: "example", DatabaseName: "postgres"})
	testenv.Close(t, testenv.Connect(t, cfg))
	pin := env.Pin
	env.Restart(t)
	if env.Pin != pin {
		t.Errorf("the pin was %s and is %s", pin, env.Pin)
	}
	if got := text(t, testenv.Connect(t, cfg), "SELECT current_user"); got != "alice" {
		t.Errorf("current_user is %q", got)
	}
	alice.Login(t)
}

// TestActivationCutShort: a gateway that stops while its admin user waits for a
// lock lets go of it. It used to crash: pgx wants to cancel the statement.
func TestActivationCutShort(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t, testenv.Options{})
	alice := env.Hire(t, "alice", "keep", "reader")
	cfg := alice.Proxy(t, identity.Route{Database: "example", DatabaseName: "postgres"})
	testenv.Close(t, testenv.Connect(t, cfg))
	awaitAccount(t, env, "alice", testenv.Account{Exists: true, Roles: []string{testenv.Group}})

	blocker := env.Server.Superuser(t, "postgres")
	exec(t, blocker, "BEGIN", "LOCK TABLE pg_auth_members IN ACCESS EXCLUSIVE MODE")
	var refused error
	var connecting sync.WaitGroup
	connecting.Go(func() { _, refused = testenv.TryConnect(t, cfg) })
	env.AwaitQuery(t, testenv.AdminUser, "pg_auth_members")
	env.Stop(t)
	connecting.Wait()
	if pg, ok := errors.AsType[*pgconn.PgError](refused); !ok || pg.Code != "57P01" {
		t.Errorf("the connection ended with %v", refused)
	}
	exec(t, blocker, "ROLLBACK")
	testenv.Eventually(t, "the admin user's statement has ended", func() bool { return len(env.Queries(t, testenv.AdminUser)) == 0 })
}
