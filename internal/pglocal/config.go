package pglocal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config describes a cluster. Only Installation is required.
type Config struct {
	Installation Installation
	// Superuser is the name of the bootstrap superuser. Default "postgres".
	Superuser string
	// HBA holds the lines of pg_hba.conf behind the one that lets the superuser in
	// through the Unix socket. Default none. Through the Unix socket everybody gets in
	// for whom no line says anything else, over TCP nobody.
	HBA string
	// Settings are lines of postgresql.conf, written unquoted, as in SHOW.
	Settings map[string]string
	// TLS switches TLS on. Default off.
	TLS *TLS
	// Follow makes the cluster a streaming replica of another one of the same
	// installation: see [Cluster.StartReplica].
	Follow *Cluster
}

// TLS holds what the server needs to speak TLS, as PEM.
type TLS struct {
	Certificate []byte // the server's certificate and intermediates
	Key         []byte // the private key
	ClientCAs   []byte // who may issue client certificates; may be empty
}

func (c Config) superuser() string {
	if c.Superuser == "" {
		return "postgres"
	}
	return c.Superuser
}

// hba returns pg_hba.conf. The superuser's line comes first, so that no line of
// the caller can lock it out.
func (c Config) hba() string {
	return "local all,replication \"" + c.superuser() + "\" trust\n" + c.HBA + "\nlocal all all trust\n"
}

// settings returns what is appended to the postgresql.conf that initdb wrote.
func (c Config) settings(socketDir string) string {
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": socketDir,
		"max_connections":         "200",
		"shared_buffers":          "32MB",
		// The cluster is thrown away: it must survive the end of a process, not of the machine.
		"fsync":            "off",
		"full_page_writes": "off",
		"log_timezone":     "UTC",
		"timezone":         "UTC",
	}
	if c.TLS != nil {
		all["ssl"] = "on"
		all["ssl_cert_file"] = certFile
		all["ssl_key_file"] = keyFile
		if len(c.TLS.ClientCAs) > 0 {
			all["ssl_ca_file"] = caFile
		}
	}
	if c.Follow != nil {
		all["primary_conninfo"] = fmt.Sprintf("host=%s port=%d user=%s", c.Follow.SocketDir(), c.Follow.Port(), c.Follow.Superuser())
		all["wal_retrieve_retry_interval"] = "100ms" // a followed server may be stopped and started by a test
	}
	maps.Copy(all, c.Settings)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(all[name], "'", "''"))
	}
	return b.String()
}

// Names of the TLS files in the data directory.
const (
	certFile = "postern-server.crt"
	keyFile  = "postern-server.key"
	caFile   = "postern-clients.crt"
)

// standbySignal is the file that makes a server a replica.
const standbySignal = "standby.signal"
