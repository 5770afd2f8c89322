package config

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/postern-db/postern/internal/access"
)

// Warnings lists what is valid but without the effect that it suggests.
func (c *Config) Warnings() []string {
	var out []string
	if _, p, _ := net.SplitHostPort(c.Hub.PublicAddr); p != "" && p != port && c.Hub.ListenAddr == everywhere {
		out = append(out, fmt.Sprintf("hub.public_addr has port %s, but the hub listens on %s: something must forward the one to the other; else set hub.listen_addr", p, everywhere))
	}
	if host, _, _ := net.SplitHostPort(c.MetricsAddr); host != "" && host != "localhost" {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.IsLoopback() {
			out = append(out, fmt.Sprintf("metrics_addr %s is not a loopback address: whoever reaches it reads the metrics, which need no login", c.MetricsAddr))
		}
	}
	s := &c.DBService
	if !*s.Enabled && len(s.Databases)+len(s.Resources) > 0 {
		out = append(out, "db_service is not enabled: nothing below it is served")
	}
	out = append(out, c.discoveryWarnings()...)
	for i, m := range s.Resources {
		if m.Labels.IsEmpty() {
			out = append(out, fmt.Sprintf("db_service.resources #%d has no labels: with such a matcher the whole list selects nothing", i+1))
			continue
		}
		if all, ok := m.Labels["*"]; ok && (len(all) != 1 || all[0] != "*") {
			out = append(out, fmt.Sprintf(`db_service.resources #%d asks for a label that is called *; "*": "*" selects every database`, i+1))
		}
		if _, err := access.NewSelector(m.Labels); err != nil {
			out = append(out, fmt.Sprintf("db_service.resources #%d selects nothing: %v", i+1, err))
		}
	}
	return out
}
