package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// port is where hubs listen unless they say otherwise.
const port = "3080"

// everywhere is where a hub with a public address listens.
const everywhere = "0.0.0.0:" + port

// complete fills in defaults and checks what only shows when fields are seen together.
func (c *Config) complete() error {
	if c.Version != "" && !slices.Contains([]string{"v1", "v2", "v3"}, c.Version) {
		return fault.Newf(fault.Invalid, "version %q is not supported", c.Version).WithHint("use version: v1")
	}
	c.completeService()
	if !*c.Hub.Enabled {
		return fault.New(fault.Invalid, "an agent apart from its hub is not possible yet").WithHint("leave hub.enabled out")
	}
	if err := c.Hub.TLS.check(); err != nil {
		return err
	}
	if c.Hub.MaxUnauthenticated < 0 || c.Hub.MaxUnauthenticatedPerSource < 0 {
		return fault.New(fault.Invalid, "the limits of unauthenticated connections cannot be negative").WithHint("leave them out for the defaults")
	}
	if err := c.completeDataDir(); err != nil {
		return err
	}
	if err := c.completeCluster(); err != nil {
		return err
	}
	if err := c.completeAddresses(); err != nil {
		return err
	}
	if _, err := c.DBService.Static(); err != nil {
		return err
	}
	return c.completeDiscovery()
}

// completeService decides what runs. A file without the section db_service means
// an agent that serves every registered database.
func (c *Config) completeService() {
	yes := true
	if c.Hub.Enabled == nil {
		c.Hub.Enabled = &yes
	}
	s := &c.DBService
	if s.Enabled == nil && len(s.Resources) == 0 && len(s.Databases) == 0 && len(s.AWS) == 0 {
		s.Resources = []Matcher{{Labels: resource.LabelSelector{"*": {"*"}}}}
	}
	if s.Enabled == nil {
		s.Enabled = &yes
	}
}

// check reads the files, so that a mistake shows before the hub is started with it.
func (t HubTLS) check() error {
	switch {
	case t == HubTLS{}:
		return nil
	case t.CertFile == "" || t.KeyFile == "":
		return fault.New(fault.Invalid, "hub.tls needs both cert_file and key_file")
	}
	if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
		return fault.Newf(fault.Invalid, "hub.tls: %w", err).WithHint("name a certificate chain and its key, both in PEM")
	}
	return nil
}

func (c *Config) completeDataDir() (err error) {
	if c.DataDir == "" {
		if c.DataDir, err = DefaultDataDir(); err != nil {
			return err
		}
	}
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return fault.Newf(fault.Invalid, "data_dir: %w", err)
	}
	return nil
}

// completeCluster sets and checks the cluster name, which becomes part of TLS
// server names.
func (c *Config) completeCluster() error {
	if c.Hub.ClusterName == "" {
		name, err := os.Hostname()
		if err != nil || checkClusterName(name) != nil {
			name = "postern"
		}
		c.Hub.ClusterName = strings.ToLower(name)
	}
	return checkClusterName(c.Hub.ClusterName)
}

func checkClusterName(name string) error {
	for label := range strings.SplitSeq(name, ".") {
		good := label != "" && len(label) <= 63 && !strings.HasPrefix(label, "-") && !strings.HasSuffix(label, "-") &&
			!strings.ContainsFunc(label, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
			})
		if !good || len(name) > 180 {
			return fault.Newf(fault.Invalid, "invalid cluster name %q", name).
				WithHint("it is made of letters, digits and hyphens, like a DNS name: postern.example.com")
		}
	}
	return nil
}

func (c *Config) completeAddresses() (err error) {
	if c.Hub.ListenAddr == "" {
		c.Hub.ListenAddr = net.JoinHostPort("127.0.0.1", port)
		if c.Hub.PublicAddr != "" {
			c.Hub.ListenAddr = everywhere
		}
	}
	if c.Hub.ListenAddr, err = withPort("hub.listen_addr", c.Hub.ListenAddr); err != nil {
		return err
	}
	if c.MetricsAddr != "" {
		host, _, err := net.SplitHostPort(c.MetricsAddr)
		if err != nil {
			return fault.Newf(fault.Invalid, "metrics_addr %q is not an address", c.MetricsAddr).WithHint("write host:port, such as 127.0.0.1:3081")
		}
		if host == "" {
			return fault.Newf(fault.Invalid, "metrics_addr %q would be open to everybody", c.MetricsAddr).
				WithHint("name the address to listen on, such as 127.0.0.1:3081")
		}
	}
	if c.Hub.PublicAddr == "" {
		return nil // the address that is really listened on, known later
	}
	c.Hub.PublicAddr, err = withPort("hub.public_addr", c.Hub.PublicAddr)
	return err
}

// withPort returns addr with a port.
func withPort(key, addr string) (string, error) {
	host, p, err := net.SplitHostPort(addr)
	if strings.Contains(addr, "/") {
		return "", fault.Newf(fault.Invalid, "%s: invalid address %q", key, addr).WithHint("write host:port, without https://")
	}
	if err != nil {
		host = strings.Trim(addr, "[]")
		if strings.Contains(host, " ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fault.Newf(fault.Invalid, "%s: invalid address %q", key, addr).WithHint("write host:port")
		}
		return net.JoinHostPort(host, port), nil
	}
	if p == "" {
		p = port
	}
	if _, err := strconv.ParseUint(p, 10, 16); err != nil {
		return "", fault.Newf(fault.Invalid, "%s: invalid port %q", key, p)
	}
	return net.JoinHostPort(host, p), nil
}

// section names a database of the file in messages.
func (d *Database) section(i int) string {
	if d.Name != "" {
		return fmt.Sprintf("db_service.databases %q", d.Name)
	}
	return fmt.Sprintf("db_service.databases #%d", i+1)
}
