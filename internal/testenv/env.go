package testenv

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/client"
	"github.com/postern-db/postern/internal/cloud/aws"
	"github.com/postern-db/postern/internal/config"
	"github.com/postern-db/postern/internal/daemon"
	"github.com/postern-db/postern/internal/pgtest"
)

// Names that the seed guide uses and every environment begins with.
const (
	AdminUser = "teleport-admin"
	Group     = "teleport-auto-user"
	Database  = "example" // the registered server of [SeedService]
	Cluster   = "main.test"
	Password  = "correct horse battery staple" // of every user
)

// SeedHBA holds the lines of pg_hba.conf that the seed guide asks for.
const SeedHBA = `hostssl all             all             ::/0                    cert
hostssl all             all             0.0.0.0/0               cert`

// SeedService is the section of the seed guide. ADDR stands for the server.
const SeedService = `db_service:
  enabled: "yes"
  databases:
  - name: "example"
    protocol: "postgres"
    uri: "ADDR"
    admin_user:
      name: "teleport-admin"
`

// Options say what an environment looks like. The zero value is a gateway with
// the seed's configuration in this process, and a server of its own.
type Options struct {
	// Version is the major version of PostgreSQL; 0 is the distribution's.
	Version int
	// HBA are lines of pg_hba.conf beside those of the seed.
	HBA string
	// Settings are added to postgresql.conf.
	Settings map[string]string
	// OnlyHBA replaces [SeedHBA] and HBA.
	OnlyHBA string
	// Beside is a gateway of the same cluster whose server this one shares. What is
	// configured with one of them is not known to the other.
	Beside *Env
	// NoServer leaves PostgreSQL out.
	NoServer bool
	// Service is the section db_service of the configuration; ADDR stands for
	// the server. Default [SeedService], or an agent of every registered
	// database without a server.
	Service string
	// Hub holds more lines of the section hub, without indentation.
	Hub string
	// NewCluster makes a cluster of that name with authorities of its own.
	// Otherwise all environments of a test binary have the same.
	NewCluster string
	// AWS is how the gateway reaches Amazon; see package rdstest.
	AWS aws.Config
	// Now is the agent's clock; default time.Now. It is of no use with Process.
	Now func() time.Time
	// Process runs the gateway as a process of its own, which can be killed.
	Process bool
}

// Env is a running gateway. Its methods may be called by several goroutines,
// except those that stop or start it.
type Env struct {
	Server  *pgtest.Server // nil without PostgreSQL
	DataDir string
	Cluster string
	Address string // host:port of the public port; stays the same over restarts
	Pin     string // of the host CA

	options Options
	founded *cluster
	running instance // nil while stopped
	broken  bool     // its end may report an error
	log     *buffer
}

// Start starts an environment that belongs to the test and ends with it.
func Start(t testing.TB, o Options) *Env {
	t.Helper()
	env := prepare(t, o)
	t.Cleanup(func() { env.end(t) })
	env.start(t)
	return env
}

// prepare makes everything but the gateway itself.
func prepare(t testing.TB, o Options) *Env {
	t.Helper()
	founded := sharedCluster(t)
	if o.NewCluster != "" {
		founded = found(t, o.NewCluster)
	}
	env := &Env{options: o, founded: founded, Cluster: founded.name, DataDir: founded.newDataDir(t), log: &buffer{}}
	if o.Beside != nil {
		env.Server = o.Beside.Server
	}
	if o.NoServer || o.Beside != nil {
		return env
	}
	env.Server = pgtest.Start(t, pgtest.Options{Version: o.Version, TLS: founded.server, HBA: cmp.Or(o.OnlyHBA, SeedHBA+"\n"+o.HBA), Settings: o.Settings})
	env.Server.Exec(t, `CREATE USER "teleport-admin" login createrole`)
	return env
}

// end stops the gateway for good.
func (e *Env) end(t testing.TB) {
	if e.running != nil {
		e.Stop(t)
	}
	if t.Failed() {
		t.Logf("the gateway's log:\n%s", e.log.tail(12_000))
	}
	if err := os.RemoveAll(e.DataDir); err != nil {
		t.Errorf("remove the data directory: %v", err)
	}
}

// ConfigText returns the configuration file of the gateway.
func (e *Env) ConfigText() string {
	service := e.options.Service
	if service == "" && e.Server != nil {
		service = SeedService
	}
	if e.Server != nil {
		service = strings.ReplaceAll(service, "ADDR", e.Server.Addr())
	}
	hub := ""
	for line := range strings.Lines(e.options.Hub) {
		hub += "  " + line
	}
	return "version: v1\ndata_dir: " + e.DataDir + "\nlog: {level: debug}\nhub:\n  cluster_name: " + e.Cluster +
		"\n  listen_addr: " + cmp.Or(e.Address, "127.0.0.1:0") + "\n" + hub + "\n" + service
}

// Config returns the configuration of the gateway, for a test that starts
// another one beside it.
func (e *Env) Config(t testing.TB) *config.Config {
	t.Helper()
	cfg, err := config.Parse("postern.yaml", []byte(e.ConfigText()))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Reconfigure replaces the section db_service; it counts from the next start.
func (e *Env) Reconfigure(service string) { e.options.Service = service }

// Admin returns a caller of the API that speaks as the hub's owner.
func (e *Env) Admin() *api.Client { return client.Control(e.DataDir) }

// ExpectUncleanEnd says that the gateway was broken on purpose in a way that its
// end reports.
func (e *Env) ExpectUncleanEnd() { e.broken = true }

// Log returns what the gateway has logged.
func (e *Env) Log() string { return e.log.String() }

// OnLog has do called with each line that the gateway logs, before it goes on, so
// that a test can hold it there. Nothing of the gateway logs anything meanwhile.
func (e *Env) OnLog(do func(line string)) {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	e.log.watch = do
}

// AuditDir returns the directory of the audit log.
func (e *Env) AuditDir() string { return daemon.AuditDir(e.DataDir) }

// configFile writes the configuration file, for a process.
func (e *Env) configFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postern.yaml")
	if err := os.WriteFile(path, []byte(e.ConfigText()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
