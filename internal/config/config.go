// Package config reads the configuration file of `postern start`.
//
// [Load] reads and checks a file; [Default] is what holds without one. Unknown
// keys are errors with line, column and excerpt. [Config.Effective] prints what
// is in force, without secrets.
package config

import (
	"os"
	"path/filepath"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/resource"
)

// maxFile bounds a configuration file.
const maxFile = 1 << 20

// Config is the whole file.
type Config struct {
	Version string `json:"version,omitempty"`  // v1, v2 and v3 are the same to us
	DataDir string `json:"data_dir,omitempty"` // state, audit log and control socket; closed to everybody but the owner
	Log     Log    `json:"log,omitzero"`
	// MetricsAddr is where GET /metrics is answered, to whoever asks; default: nowhere.
	MetricsAddr string `json:"metrics_addr,omitempty"`

	Hub       Hub       `json:"hub,omitzero"`
	DBService DBService `json:"db_service,omitzero"`
	Discovery Discovery `json:"discovery_service,omitzero"`
}

// Log says what the process tells about itself, on standard error.
type Log struct {
	Level  Level  `json:"level,omitempty"`  // debug, info (default), warn or error
	Format Format `json:"format,omitempty"` // text (default) or json
}

// Hub is the public part.
type Hub struct {
	Enabled     *bool  `json:"enabled,omitempty"`      // default true
	ClusterName string `json:"cluster_name,omitempty"` // default: the host's name; cannot change after the first start
	ListenAddr  string `json:"listen_addr,omitempty"`  // default 127.0.0.1:3080, or 0.0.0.0:3080 when public_addr is set
	PublicAddr  string `json:"public_addr,omitempty"`  // host:port under which clients reach the hub; default: listen_addr
	TLS         HubTLS `json:"tls,omitzero"`

	// ProxyProtocol lists the load balancers in front of the public port, as addresses
	// or networks: connections from them must begin with a PROXY protocol header.
	ProxyProtocol []Network `json:"proxy_protocol,omitempty"`
	// MaxUnauthenticated and MaxUnauthenticatedPerSource bound the connections to the
	// public port of which nobody has proven who they are.
	MaxUnauthenticated          int `json:"max_unauthenticated,omitempty"`            // default 4096
	MaxUnauthenticatedPerSource int `json:"max_unauthenticated_per_source,omitempty"` // default 256; of an IPv4 address or an IPv6 /64
}

// HubTLS is a certificate for the public port that browsers trust. It is read
// again when the files change.
type HubTLS struct {
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
}

// DBService is the agent (behaviour.md §1.6).
type DBService struct {
	Enabled   *bool      `json:"enabled,omitempty"`   // default true
	Resources []Matcher  `json:"resources,omitempty"` // which registered databases this agent serves; a missing section means all
	Databases []Database `json:"databases,omitempty"` // static ones
	AWS       []Discover `json:"aws,omitempty"`
	Azure     []Tolerate `json:"azure,omitempty"`
}

// Matcher selects registered databases by their labels.
type Matcher struct {
	Labels resource.LabelSelector `json:"labels,omitempty"`
	AWS    MatcherAWS             `json:"aws,omitzero"`
}

// MatcherAWS is how an agent reaches the databases of another account.
type MatcherAWS struct {
	AssumeRoleARN string `json:"assume_role_arn,omitempty"`
	ExternalID    string `json:"external_id,omitempty"`
}

// Discovery registers what it finds in Amazon's cloud at the hub, for all agents.
type Discovery struct {
	Enabled        *bool             `json:"enabled,omitempty"`         // default true where aws says what to find
	DiscoveryGroup string            `json:"discovery_group,omitempty"` // tells what several services register apart; default: default
	PollInterval   resource.Duration `json:"poll_interval,omitempty"`   // default 5m
	AWS            []Discover        `json:"aws,omitempty"`
	Azure          []Tolerate        `json:"azure,omitempty"`
	GCP            []Tolerate        `json:"gcp,omitempty"`
}

// Discover finds databases in Amazon's cloud.
type Discover struct {
	Types         []string               `json:"types,omitempty"`
	Regions       []string               `json:"regions,omitempty"`
	Tags          resource.LabelSelector `json:"tags,omitempty"`
	AssumeRoleARN string                 `json:"assume_role_arn,omitempty"`
	ExternalID    string                 `json:"external_id,omitempty"`
}

// Tolerate is a section for servers that we do not serve.
type Tolerate struct {
	Types          []string               `json:"types,omitempty"`
	Subscriptions  []string               `json:"subscriptions,omitempty"`
	ResourceGroups []string               `json:"resource_groups,omitempty"`
	Regions        []string               `json:"regions,omitempty"`
	Locations      []string               `json:"locations,omitempty"`
	ProjectIDs     []string               `json:"project_ids,omitempty"`
	Tags           resource.LabelSelector `json:"tags,omitempty"`
}

// Database is a database written in the file.
type Database struct {
	Name          string              `json:"name"`
	Description   string              `json:"description,omitempty"`
	Protocol      string              `json:"protocol,omitempty"`
	URI           string              `json:"uri,omitempty"`
	TLS           DatabaseTLS         `json:"tls,omitzero"`
	CACertFile    string              `json:"ca_cert_file,omitempty"` // older place; TLS.CACertFile comes first
	AdminUser     resource.AdminUser  `json:"admin_user,omitzero"`
	Auth          resource.AuthMethod `json:"auth,omitempty"`
	AWS           resource.AWS        `json:"aws,omitzero"`
	GCP           resource.GCP        `json:"gcp,omitzero"`
	Azure         resource.Azure      `json:"azure,omitzero"`
	StaticLabels  map[string]string   `json:"static_labels,omitempty"`
	DynamicLabels []DynamicLabel      `json:"dynamic_labels,omitempty"`
}

// DatabaseTLS says how the agent verifies the server.
type DatabaseTLS struct {
	Mode                resource.TLSMode `json:"mode,omitempty"`
	ServerName          string           `json:"server_name,omitempty"`
	CACertFile          string           `json:"ca_cert_file,omitempty"`
	TrustSystemCertPool bool             `json:"trust_system_cert_pool,omitempty"`
}

// DynamicLabel is a label whose value is the output of a command.
type DynamicLabel struct {
	Name    string            `json:"name"`
	Command []string          `json:"command"`
	Period  resource.Duration `json:"period,omitempty"`
}

// Load reads and checks the file at path. Errors are NotFound and Invalid.
func Load(path string) (*Config, error) {
	data, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads and checks data; name stands in the messages.
func Parse(name string, data []byte) (*Config, error) {
	c := &Config{}
	if err := resource.DecodeStrict(name, data, c); err != nil {
		return nil, err
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	return c, nil
}

// Default is what holds without a file: a hub in the user's state directory, and
// an agent that serves the databases that are registered.
func Default() (*Config, error) {
	c := &Config{}
	return c, c.complete()
}

// DefaultDataDir is where state is kept when nothing says otherwise.
func DefaultDataDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "postern"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fault.New(fault.Invalid, "no home directory to keep state in").
			WithHint("set HOME, or name the data directory: data_dir in the configuration, --data-dir or POSTERN_DATA_DIR for commands").WithCause(err)
	}
	return filepath.Join(home, ".local", "state", "postern"), nil
}

// readFile reads a file of bounded size.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return nil, fault.Newf(fault.NotFound, "there is no file %s", path)
	case err != nil:
		return nil, fault.Newf(fault.Invalid, "%s cannot be read: %w", path, err)
	case info.IsDir():
		return nil, fault.Newf(fault.Invalid, "%s is a directory", path)
	case info.Size() > limit:
		return nil, fault.Newf(fault.Invalid, "%s is larger than %d bytes", path, limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "%s cannot be read: %w", path, err)
	}
	return data, nil
}
