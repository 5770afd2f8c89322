package pglocal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pollInterval is how often the state file of a starting server is read.
const pollInterval = 5 * time.Millisecond

// waitReady waits until the server says in postmaster.pid that it accepts
// connections, as a primary or as a replica (line 8, PM_STATUS; the file is
// described in miscadmin.h).
func (c *Cluster) waitReady(ctx context.Context, server *process) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		// The process id is compared because a crash leaves the old file behind.
		text, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
		lines := strings.Split(string(text), "\n")
		if err == nil && len(lines) > 7 && lines[0] == fmt.Sprint(server.pid) {
			if status := strings.TrimSpace(lines[7]); status == "ready" || status == "standby" {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-server.done:
			return fmt.Errorf("the server ended (%v)", server.cmd.ProcessState)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
