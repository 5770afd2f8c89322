package testenv

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/postern-db/postern/internal/pgtest"
)

// shared holds the environment that the tests of this binary share.
var shared struct {
	sync.Mutex
	env *Env
}

// Shared returns the environment that all tests of the package share, and starts
// it for the first of them. The package's TestMain must call [Main].
func Shared(t testing.TB) *Env {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.env == nil {
		shared.env = startShared(t)
	}
	env, from := shared.env, len(shared.env.Log())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway's log since the test began:\n%s", env.Log()[from:])
		}
	})
	return env
}

func startShared(t testing.TB) *Env {
	t.Helper()
	founded := sharedCluster(t)
	env := &Env{
		founded: founded, Server: pgtest.Shared(t, 0), Cluster: founded.name, DataDir: founded.newDataDir(t), log: &buffer{},
		// A test may register databases beside the static one.
		options: Options{Service: SeedService + "  resources:\n  - labels: {\"*\": \"*\"}\n"},
	}
	adopt(t, env.Server, founded.server)
	env.Server.Exec(t, `CREATE USER "teleport-admin" login createrole`)
	env.start(t)
	return env
}

// Main runs the tests of a package, ends what they shared, and fails the package
// when a goroutine is left.
func Main(m *testing.M) {
	pgtest.Main(m, func() error {
		shared.Lock()
		defer shared.Unlock()
		built.Lock()
		defer built.Unlock()
		if built.dir != "" {
			if err := os.RemoveAll(built.dir); err != nil {
				return err
			}
		}
		if shared.env == nil {
			return nil
		}
		if err := shared.env.running.stop(); err != nil {
			return fmt.Errorf("end the shared gateway: %w", err)
		}
		return os.RemoveAll(shared.env.DataDir)
	})
}
