//go:build !unix

package store

import (
	"os"

	"github.com/postern-db/postern/internal/fault"
)

// lockFile refuses: without a lock that ends with the process, two hubs could
// share one file.
func lockFile(string) (*os.File, error) {
	return nil, fault.New(fault.Unavailable, "a hub cannot keep its state on this operating system").
		WithHint("run the hub on Linux or macOS")
}
