package agent

import (
	"context"
	"net"
	"time"

	"github.com/postern-db/postern/internal/api"
	"github.com/postern-db/postern/internal/resource"
)

const (
	healthInterval = 30 * time.Second
	healthTimeout  = 5 * time.Second

	statusHealthy = "healthy"
)

func (d *database) healthNow() api.DatabaseHealth {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.health
}

// watchHealth notes whether the server can be reached, until ctx ends. It is for
// people who look; a session is tried whatever the last check said.
func (d *database) watchHealth(ctx context.Context, now func() time.Time) {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for {
		h := api.DatabaseHealth{Name: d.resource.GetName(), Status: statusHealthy, Checked: now().UTC()}
		if err := reach(ctx, d.resource.Hosts()); err != nil {
			h.Status, h.Message = "unhealthy", err.Error()
		}
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		d.health = h
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// reach opens a connection to every host and closes it again. One that answers is
// enough; the error is that of the last otherwise.
func reach(ctx context.Context, hosts []resource.Host) (err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	for _, h := range hosts {
		var conn net.Conn
		if conn, err = (&net.Dialer{}).DialContext(ctx, h.Network(), h.Address()); err == nil {
			conn.Close()
			return nil
		}
	}
	return err
}
