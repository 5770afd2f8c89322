package api

import "strings"

const (
	// HubServerName is in every certificate of the hub that the host CA signed. A
	// client that trusts the host CA checks for it, and so does not depend on the
	// address under which the hub was reached. Agents never get it.
	HubServerName = "hub.postern.internal"

	// ALPNDatabase marks a TLS connection of our own client that carries the
	// PostgreSQL protocol inside.
	ALPNDatabase = "postern-db"

	// ControlSocket is the socket of the hub's owner, in the hub's data directory.
	ControlSocket = "ctl.sock"

	// DefaultPort is the hub's public port where an address names none.
	DefaultPort = "3080"
)

// DatabaseServerName is the TLS server name that leads to a database:
// <database>.db.<cluster>. It is a routing hint only; the certificate decides.
func DatabaseServerName(database, cluster string) string {
	return strings.ToLower(database + ".db." + cluster)
}
