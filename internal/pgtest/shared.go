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
	servers map[int]*Server
}

// Shared returns the server of a major version that all tests of the package
// share, and starts it for the first of them. The package's TestMain must call
// [Main].
func Shared(t testing.TB, version int) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s, ok := shared.servers[version]; ok {
		return s
	}
	s, err := start(t, Options{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	if shared.servers == nil {
		shared.servers = map[int]*Server{}
	}
	shared.servers[version] = s
	return s
}

// Main runs the tests of a package, ends what else they shared, stops the shared
// servers, and fails the package when a goroutine is left.
func Main(m *testing.M, ends ...func() error) {
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
	os.Exit(code) //nolint:forbidigo // a TestMain is the main of its binary
}
