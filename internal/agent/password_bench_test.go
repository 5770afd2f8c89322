package agent_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postern-db/postern/internal/testenv"
)

// BenchmarkConnectPassword is BenchmarkConnect for a server that asks for passwords
// (SCRAM over TLS): directly as a user who has one, and through the gateway, with
// and without another session of the user.
func BenchmarkConnectPassword(b *testing.B) {
	env := testenv.Start(b, testenv.Options{
		Process: true, OnlyHBA: "hostssl all all 127.0.0.1/32 scram-sha-256", Service: everything,
		Settings: map[string]string{"fsync": "on", "synchronous_commit": "on", "password_encryption": "scram-sha-256"},
	})
	env.Server.Exec(b, `ALTER ROLE "teleport-admin" PASSWORD 'admin'`, "CREATE ROLE direct LOGIN PASSWORD 'direct'")
	byFile := fmt.Sprintf("{name: teleport-admin, password_file: %q}", secretFile(b, "admin", 0o600))
	env.Apply(b, passwordDatabase(testenv.Database, env.Server.Addr(), byFile, "  tls: {mode: verify-full}"))
	awaitServed(b, env, testenv.Database)
	ways := []*way{
		{name: "direct", cfg: directPasswordConfig(b, env)},
		{name: "active", cfg: personConfig(b, env, "active", "keep")},
		{name: "each", cfg: personConfig(b, env, "each", "keep")},
	}
	held := testenv.Connect(b, ways[1].cfg)
	defer testenv.Close(b, held)
	takeTurns(b, env, ways)
}

func directPasswordConfig(b *testing.B, env *testenv.Env) *pgx.ConnConfig {
	b.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(env.ServerAuthority())
	cfg := env.Server.Config(b, "direct", "postgres")
	cfg.Host, cfg.Password = env.Server.Host, "direct"
	cfg.TLSConfig = &tls.Config{RootCAs: roots, ServerName: env.Server.Host, MinVersion: tls.VersionTLS12}
	return cfg
}
