//go:build !unix

package audit

import (
	"os"

	"github.com/postern-db/postern/internal/fault"
)

// lockDir refuses: without a lock that ends with the process, two writers could
// fork the chain.
func lockDir(string) (*os.File, error) {
	return nil, fault.New(fault.Unavailable, "an audit log cannot be written on this operating system").
		WithHint("run hub and agent on Linux or macOS")
}
