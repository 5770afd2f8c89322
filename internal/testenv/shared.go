package testenv

import (
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/postern-db/postern/internal/pgtest"
)

// shared holds the environment that the tests of this binary share.
var shared struct {
	sync.Mutex
	*keeper
}

// keeper is an environment that outlives the test that started it.
type keeper struct {
	testing.TB // of that test, except for Cleanup

	env   *Env
	users map[string]bool // tests that have used it
	ends  []func()
}

// Cleanup keeps f for the end of the environment.
func (k *keeper) Cleanup(f func()) { k.ends = append(k.ends, f) }

func (k *keeper) end() error {
	err := k.env.running.stop()
	for i := len(k.ends) - 1; i >= 0; i-- {
		k.ends[i]()
	}
	return errors.Join(err, os.RemoveAll(k.env.DataDir))
}

// Shared returns the environment that all tests of the package share, and starts
// it for the first of them. A test that comes again, as with -count=2, begins a
// new one. The package's TestMain must call [Main].
func Shared(t testing.TB) *Env {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.keeper != nil && shared.users[t.Name()] {
		if err := shared.end(); err != nil {
			t.Errorf("end the shared environment: %v", err)
		}
		shared.keeper = nil
	}
	if shared.keeper == nil {
		k := &keeper{TB: t, users: map[string]bool{}}
		k.env = prepare(k, Options{Service: SeedService + sharedResources})
		k.env.start(k)
		shared.keeper = k
	}
	shared.users[t.Name()] = true
	env, from := shared.env, len(shared.env.Log())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway's log since the test began:\n%s", env.Log()[from:])
		}
	})
	return env
}

// sharedResources lets tests register databases beside the static one.
const sharedResources = `  resources:
  - labels: {"*": "*"}
`

// Main is the TestMain of a package: it ends the process after [Run].
func Main(m *testing.M) {
	os.Exit(Run(m)) //nolint:forbidigo // a TestMain is the main of its binary
}

// Run runs the tests of a package, ends what they shared, and fails the package
// when a goroutine is left. It returns the exit code.
func Run(m *testing.M) int {
	return pgtest.Run(m, func() (err error) {
		shared.Lock()
		defer shared.Unlock()
		built.Lock()
		defer built.Unlock()
		if shared.keeper != nil {
			err = shared.end()
		}
		if built.dir != "" {
			err = errors.Join(err, os.RemoveAll(built.dir))
		}
		return err
	})
}
