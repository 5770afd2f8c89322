package agent_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-db/postern/internal/pgtest"
	"github.com/postern-db/postern/internal/rdstest"
	"github.com/postern-db/postern/internal/testenv"
)

// aurora is a gateway that has discovered a cluster: a writer and a reader
// endpoint before a server and its streaming replica. They have one port and a host
// each, so that a token for one is of no use at the other.
type aurora struct {
	*replicated
	fake           *rdstest.Fake
	writer, reader *rdstest.Front
}

const (
	auroraWriter = "shop-rds-aurora-eu-west-1-123456789012"
	auroraReader = "shop-reader-rds-aurora-eu-west-1-123456789012"
)

// noWAL makes a server answer questions about its WAL as Aurora does.
const noWAL = `SET allow_system_table_mods = on;
ALTER FUNCTION pg_catalog.pg_current_wal_flush_lsn() RENAME TO real_flush_lsn;
CREATE FUNCTION pg_catalog.pg_current_wal_flush_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'Function pg_current_wal_flush_lsn() is currently not supported for Aurora' USING ERRCODE = '0A000'; END $$`

func startAurora(t *testing.T, version int, prepare ...string) *aurora {
	t.Helper()
	fake := rdstest.Start(t)
	cfg := fake.Config()
	cfg.DiscoveryInterval = 50 * time.Millisecond
	env := testenv.Start(t, testenv.Options{Version: version, HBA: rdstest.HBA, AWS: cfg, Service: `db_service:
  aws:
  - types: [rds]
    regions: [eu-west-1]
    tags: {env: prod}
`})
	env.Server.Exec(t, append(prepare, "CREATE ROLE rds_iam", `GRANT rds_iam TO "teleport-admin" WITH ADMIN OPTION`)...)
	replica := env.Server.Replica(t, nil)
	ends := fake.Endpoints(t, "eu-west-1", env.Server, replica)
	a := &aurora{replicated: &replicated{Env: env, replica: replica}, fake: fake, writer: ends[0], reader: ends[1]}
	fake.PutCluster(rdstest.Cluster{
		ID: "shop", Region: "eu-west-1", Writer: a.writer.Host, Reader: a.reader.Host, Port: a.writer.Port, Members: []string{"shop-1", "shop-2"},
		Tags: map[string]string{"env": "prod", "teleport.dev/db-admin": "teleport-admin", "teleport.dev/db-admin-default-database": "postgres"},
	})
	awaitServed(t, env, auroraWriter)
	awaitServed(t, env, auroraReader)
	return a
}

// logins returns how often the user was let in at each endpoint, and who was refused.
func (a *aurora) logins(user string) (reader, writer int, refused []string) {
	count := func(front *rdstest.Front) int {
		return len(slices.DeleteFunc(front.Admitted(), func(u string) bool { return u != user }))
	}
	return count(a.reader), count(a.writer), append(a.reader.Refused(), a.writer.Refused()...)
}

// TestAuroraReader: sessions through the reader endpoint of a discovered cluster log
// in with tokens for each of its endpoints, and the account is released when the
// sessions on both endpoints are gone.
func TestAuroraReader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version int
		prepare []string
	}{{pgtest.Versions(t)[0], nil}, {pgtest.Newest(t), []string{noWAL}}} {
		t.Run(fmt.Sprint(c.version), func(t *testing.T) {
			t.Parallel()
			a := startAurora(t, c.version, c.prepare...)
			alice := a.Hire(t, "alice", "keep", "reader")
			a.replica.Exec(t, "ALTER SYSTEM SET recovery_min_apply_delay = '200ms'", "SELECT pg_reload_conf()")
			withIAM := testenv.Account{Exists: true, Login: true, Roles: []string{"rds_iam", "reader", testenv.Group}}

			read := alice.Connect(t, auroraReader, "postgres")
			onReplica(t, read)
			if diff := cmp.Diff(withIAM, a.Account(t, "alice")); diff != "" {
				t.Errorf("during the session (-want +got):\n%s", diff)
			}
			// The endpoints do not know of each other. The sweep of one may overtake the login that
			// makes the account at the other, see TestOvertakenLogin. From here on no login is
			// refused: there is a session, and the reader has replayed what came before.
			a.Server.Exec(t, "CREATE ROLE replayed")
			a.awaitReplicaAccount(t, "replayed", "login=f roles=0")
			reader, writer, refused := a.logins("alice")
			write := alice.Connect(t, auroraWriter, "postgres")
			if got := text(t, write, "SELECT format('%s %s', current_user, pg_is_in_recovery())"); got != "alice f" {
				t.Errorf("session of %s, want alice on the writer", got)
			}

			testenv.Close(t, read)
			a.AwaitAudit(t, 1, of("alice", "TDB01I"))
			if diff := cmp.Diff(withIAM, a.Account(t, "alice")); diff != "" {
				t.Errorf("the reader's session is gone, the writer's is not (-want +got):\n%s", diff)
			}
			read = alice.Connect(t, auroraReader, "postgres")
			testenv.Close(t, write)
			a.AwaitAudit(t, 2, of("alice", "TDB01I"))
			if diff := cmp.Diff(withIAM, a.Account(t, "alice")); diff != "" {
				t.Errorf("the writer's session is gone, the reader's is not (-want +got):\n%s", diff)
			}
			onReplica(t, read)
			testenv.Close(t, read)
			awaitAccount(t, a.Env, "alice", disabled)
			a.awaitReplicaAccount(t, "alice", "login=f roles=1")
			readerNow, writerNow, refusedNow := a.logins("alice")
			if reader, writer := readerNow-reader, writerNow-writer; reader != 1 || writer != 2 {
				t.Errorf("alice logged in %d times at the reader and %d times at the writer, want once for each session, and at the writer for an anchor", reader, writer)
			}
			if len(refusedNow) != len(refused) {
				t.Errorf("refused: %q", refusedNow)
			}
		})
	}
}

// TestAuroraOvertakenLogin: as TestOvertakenLogin, through the reader. The login that another
// agent's sweep overtakes is that of the anchor.
func TestAuroraOvertakenLogin(t *testing.T) {
	t.Parallel()
	a := startAurora(t, 0)
	alice := a.Hire(t, "alice", "keep", "reader")
	overtake(t, a.Env, "alice")
	conn := alice.Connect(t, auroraReader, "postgres")
	onReplica(t, conn)
	if got := text(t, conn, "SELECT pg_has_role('reader', 'usage')::text"); got != "true" {
		t.Errorf("alice has her db role on the replica: %s", got)
	}
	reader, _, refused := a.logins("alice")
	if reader != 1 || len(refused) == 0 {
		t.Errorf("alice logged in %d times at the reader, want once; refused: %q, want the anchor's first login", reader, refused)
	}
	testenv.Close(t, conn)
	awaitAccount(t, a.Env, "alice", disabled)
}

// TestAuroraFailover: the cluster's reader takes over. Both endpoints lead to
// the machine that can be written to, as Amazon has it while there is no reader.
func TestAuroraFailover(t *testing.T) {
	t.Parallel()
	a := startAurora(t, 0)
	alice := a.Hire(t, "alice", "best_effort_drop", "reader")
	testenv.Close(t, alice.Connect(t, auroraReader, "postgres"))
	awaitAccount(t, a.Env, "alice", testenv.Account{})
	a.Server.Stop(t)
	a.replica.Exec(t, "SELECT pg_promote()")
	a.writer.Lead(t, a.replica)
	for _, name := range []string{auroraReader, auroraWriter} {
		conn := alice.Connect(t, name, "postgres")
		if got := text(t, conn, "SELECT format('%s %s', current_user, pg_is_in_recovery())"); got != "alice f" {
			t.Errorf("session of %s, want alice on the new writer", got)
		}
		testenv.Close(t, conn)
		a.awaitReplicaAccount(t, "alice", "none")
	}
}
