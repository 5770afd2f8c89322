package agent_test

import (
	"fmt"
	"testing"

	"github.com/postern-db/postern/internal/identity"
	"github.com/postern-db/postern/internal/testenv"
)

// BenchmarkConnectReplica is BenchmarkConnect for a session on a replica (reader),
// beside one on its writer (active). The user has another session all the time.
func BenchmarkConnectReplica(b *testing.B) {
	env := testenv.Start(b, testenv.Options{
		Process: true, Service: testenv.SeedService + "  resources:\n  - labels: {\"*\": \"*\"}\n",
		Settings: map[string]string{"fsync": "on", "synchronous_commit": "on"},
	})
	replica := env.Server.Replica(b, nil)
	env.Apply(b, fmt.Sprintf(`kind: db
version: v3
metadata: {name: reader}
spec: {protocol: postgres, uri: %q, admin_user: {name: teleport-admin, uri: %q}}`, replica.Addr(), env.Server.Addr()))
	awaitServed(b, env, "reader")
	active := personConfig(b, env, "active", "keep")
	ways := []*way{
		{name: "direct", cfg: directConfig(b, env)},
		{name: "active", cfg: active},
		{name: "reader", cfg: env.As(b, "active").Direct(b, identity.Route{Database: "reader"})},
	}
	held := testenv.Connect(b, active)
	defer testenv.Close(b, held)
	takeTurns(b, env, ways)
}
