package pgtest

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shared holds the servers that the tests of this binary share. Go offers no
// place but a package variable that outlives a test and ends with the binary.
var shared struct {
	sync.Mutex
	servers map[sharedKey]*Server
}

// sharedKey tells shared servers apart.
type sharedKey struct {
	version int
	stock   bool
}

// Shared returns the server of a major version that all tests of the package
// share, and starts it for the first of them. The package's TestMain must call
// [Main].
func Shared(t testing.TB, version int) *Server {
	t.Helper()
	return share(t, sharedKey{version: version}, Options{Version: version})
}

// Stock returns options for a server that asks everybody for a SCRAM password, as
// one does that comes from a distribution, and that logs everything it can.
func Stock(version int) Options {
	return Options{
		Version: version,
		HBA:     "host all all 127.0.0.1/32 scram-sha-256",
		Settings: map[string]string{
			"password_encryption": "scram-sha-256", // not the default before 14
			"log_statement":       "all", "log_connections": "on", "log_min_error_statement": "debug5", "log_min_messages": "debug1",
		},
	}
}

// SharedStock is [Shared] for a server with the options of [Stock].
func SharedStock(t testing.TB, version int) *Server {
	t.Helper()
	return share(t, sharedKey{version, true}, Stock(version))
}

func share(t testing.TB, key sharedKey, o Options) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s, ok := shared.servers[key]; ok {
		return s
	}
	s, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if shared.servers == nil {
		shared.servers = map[sharedKey]*Server{}
	}
	shared.servers[key] = s
	return s
}

// StockLogs returns the logs of the servers of [SharedStock] so far, for what a
// package looks for when its tests are over.
func StockLogs() []string {
	shared.Lock()
	defer shared.Unlock()
	var logs []string
	for key, s := range shared.servers {
		if key.stock {
			logs = append(logs, s.Log())
		}
	}
	return logs
}

// Main is the TestMain of a package: it ends the process after [Run].
func Main(m *testing.M, ends ...func() error) {
	os.Exit(Run(m, ends...)) //nolint:forbidigo // a TestMain is the main of its binary
}

// Run runs the tests of a package, ends what else they shared, stops the shared
// servers, and fails the package when a goroutine is left. It returns the exit code.
func Run(m *testing.M, ends ...func() error) int {
	code := m.Run()
	for _, end := range ends {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = 1
		}
	}
	shared.Lock()
	defer shared.Unlock()
	for _, s := range shared.servers {
		if err := s.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: remove the shared server:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: goroutines are left:", err)
			code = 1
		}
	}
	return code
}
