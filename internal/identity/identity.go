// Package identity says who a certificate speaks for.
//
// An [Identity] becomes an X.509 user certificate with [Template] and comes back
// from one with [FromCertificate], without loss; everything that is not
// understood is refused. The package does no I/O and holds no keys: signing and
// verifying is the business of package ca.
//
// The certificate says everything twice. The subject (CN = user, O = roles) is
// for people and for tools that know X.509 only; the private extension
// [ExtensionOID] is what counts, and the two must agree.
package identity

import (
	"maps"
	"slices"
	"time"
)

// Identity is what a user certificate proves about its holder.
type Identity struct {
	User    string              // name of the user
	Cluster string              // cluster whose user CA issued the certificate
	Roles   []string            // roles at issue time; local decisions use the live ones
	Traits  map[string][]string // traits at issue time; local decisions use the live ones
	Route   Route               // zero for a login certificate
	Expires time.Time           // end of the certificate, in whole seconds
	// LoginExpires is the end of the login behind a certificate that lives
	// shorter than the login does, in whole seconds. Zero means the same as
	// Expires.
	LoginExpires time.Time
}

// Route binds a certificate to one database. The zero Route binds to none: such
// a certificate is good for the API only.
type Route struct {
	Database     string `json:"database,omitempty"`
	DatabaseUser string `json:"db_user,omitempty"` // empty: any that policy allows
	DatabaseName string `json:"db_name,omitempty"` // empty: any that policy allows
	// DatabaseRole is the requested subset of db roles. Nil asks for all that
	// policy allows; an empty list asks for none. The two are never mixed up:
	// omitzero writes the empty list.
	DatabaseRole []string `json:"db_roles,omitzero"`
}

// IsZero reports whether r names no database.
func (r Route) IsZero() bool { return r.Database == "" }

// Clone returns a copy of id that shares no memory with it.
func (id Identity) Clone() Identity {
	id.Roles = slices.Clone(id.Roles)
	id.Traits = maps.Clone(id.Traits)
	for name, values := range id.Traits {
		id.Traits[name] = slices.Clone(values)
	}
	id.Route.DatabaseRole = slices.Clone(id.Route.DatabaseRole)
	return id
}

// LoginEnd returns the end of the login behind the certificate.
func (id Identity) LoginEnd() time.Time {
	if id.LoginExpires.IsZero() {
		return id.Expires
	}
	return id.LoginExpires
}
